// The worker that holds the processor. The page stays free whatever the guest does.
import { Debugger } from "./debugger.ts";
import type { Message, Request } from "./protocol.ts";

const post = (message: Message): void => self.postMessage(message);
const machine = new Debugger((state) => post({ kind: "state", state }));

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

async function handle(request: Request): Promise<void> {
  switch (request.kind) {
    case "load":
      try {
        machine.load(request.program, request.settings);
        post({ kind: "loaded", ticket: request.ticket });
      } catch (error) {
        post({ kind: "loaded", ticket: request.ticket, error: textOf(error) });
      }
      break;
    case "goto":
      await machine.goTo(request.count);
      break;
    case "settings":
      await machine.change(request.settings);
      break;
    case "run":
      await machine.run();
      break;
    case "pause":
      machine.pause();
      break;
    case "reset":
      machine.reset();
      break;
    case "step":
      machine.step(request.times);
      break;
    case "back":
      await machine.back(request.times);
      break;
    case "breakpoints":
      machine.setBreakpoints(request.addresses);
      break;
    case "input":
      machine.input(request.text);
      break;
    case "memory":
      machine.look(request.address, request.rows);
      break;
    case "exit":
      post({ kind: "exit", detail: machine.exit(request.id) });
      break;
  }
}

self.onmessage = ({ data }: MessageEvent<Request>) => {
  handle(data).catch((error: unknown) => {
    post({ kind: "error", message: textOf(error) });
  });
};
