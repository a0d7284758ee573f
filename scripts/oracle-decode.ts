/** `npm run oracle:decode [-- every [seed]]`: one in `every` encodings (default 3) against iced-x86; says what differs. */
import { Oracle } from "./decode-oracle/compare.ts";
import { encodings, total } from "./decode-oracle/encodings.ts";

const every = Number(process.argv[2] ?? 3);
const seed = Number(process.argv[3] ?? 1);
const SHOWN = 60;
const oracle = new Oracle();
const expected = Math.floor(total() / every);
const start = Date.now();
let done = 0;
let different = 0;
for (const encoding of encodings({ every, seed })) {
  const line = oracle.compare(encoding);
  if (line && different++ < SHOWN) console.log(line);
  if (++done % 500_000 === 0) {
    const seconds = Math.round((Date.now() - start) / 1000);
    console.error(`${done} of ${expected} encodings, ${different} differences, ${seconds} s`);
  }
}
console.log(`${done} encodings, ${different} differences`);
process.exit(different ? 1 : 0);
