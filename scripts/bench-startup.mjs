// npm run bench:startup: sizes of the core, and the time from import to the first guest instruction, in new processes.
const { measureStartup, startupLines } = await import("../dist/src/bench/startup.js");
console.log(startupLines(measureStartup(new URL("../", import.meta.url))).join("\n"));
