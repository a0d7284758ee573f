/** Writes lines in pieces of this many characters. */
const PIECE = 16 << 10;

function write(stream: NodeJS.WritableStream, text: string): Promise<boolean> {
  return new Promise((resolve) => {
    stream.write(text, (error) => resolve(error === undefined || error === null));
  });
}

/**
 * Writes each line as the reader takes them: a source that is a generator runs no further than what is read.
 * False when the reader has gone away (`| head`); the source is closed then.
 */
export async function writeLines(
  stream: NodeJS.WritableStream,
  lines: Iterable<string> | AsyncIterable<string>,
): Promise<boolean> {
  let pending = "";
  let written = performance.now();
  for await (const line of lines) {
    pending += `${line}\n`;
    if (pending.length < PIECE && performance.now() - written < 100) continue;
    if (!(await write(stream, pending))) return false;
    pending = "";
    // signals are seen between turns of the event loop
    await new Promise((resolve) => setImmediate(resolve));
    written = performance.now();
  }
  return pending === "" || write(stream, pending);
}
