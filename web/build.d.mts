import type { Server } from "node:http";

/** Builds the page into a folder, web/dist by default, and returns it. */
export function buildPlayground(out?: string): Promise<string>;
/** Serves a folder on 127.0.0.1; port 0 takes a free one. */
export function serve(folder: string, port: number): Promise<Server>;
