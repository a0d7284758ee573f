export { connectMachine, type Promised, type RemoteMachine } from "./connect.ts";
export type { Endpoint, MachineEndpoint, NodeEndpoint } from "./endpoint.ts";
export type { RemoteMethod, RemoteProperty } from "./protocol.ts";
export { serveMachine, type WorkerApp } from "./serve.ts";
