// npm run bench:hooks: what a hook costs where it is set, and that nothing is paid where none is.
import { hookReport } from "../dist/src/bench/hooks.js";

const report = hookReport();
const mips = ({ alu, memory }) => `${alu.toFixed(0)} and ${memory.toFixed(0)} million instructions a second`;
console.log(`without hooks: ${mips(report.free)} (registers only; with memory)`);
console.log(`hooks of every kind elsewhere: ${mips(report.elsewhere)}`);
for (const { name, nanoseconds } of report.costs)
  console.log(`${name.padEnd(28)} ${nanoseconds.toFixed(0).padStart(6)} ns`);
