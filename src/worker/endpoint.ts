/** What browsers give: a Worker, the global scope of one, a MessagePort. */
export interface Endpoint {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: object): void;
  removeEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: object): void;
  start?(): void;
}

/** What Node's worker_threads give: Worker, parentPort, MessagePort. */
export interface NodeEndpoint {
  postMessage(message: unknown, transfer?: readonly unknown[]): void;
  on(event: "message", listener: (data: unknown) => void): unknown;
  off(event: "message", listener: (data: unknown) => void): unknown;
}

/** A Worker, the global scope of one, a MessagePort, or parentPort, of a browser or of Node. */
export type MachineEndpoint = Endpoint | NodeEndpoint;

/** One shape for all of them. */
export function asEndpoint(endpoint: MachineEndpoint): Endpoint {
  if ("addEventListener" in endpoint) return endpoint;
  const listeners = new WeakMap<object, (data: unknown) => void>();
  return {
    postMessage: (message, transfer) => endpoint.postMessage(message, transfer),
    addEventListener: (_type, listener) => {
      const heard = (data: unknown) => {
        const event = { data } as MessageEvent;
        if ("handleEvent" in listener) listener.handleEvent(event);
        else listener(event);
      };
      listeners.set(listener, heard);
      endpoint.on("message", heard);
    },
    removeEventListener: (_type, listener) => {
      const heard = listeners.get(listener);
      if (heard) endpoint.off("message", heard);
    },
  };
}
