// A form of an instruction as a manual writes it, for error messages.
import type { Form } from "./names.ts";

const SIZES: Readonly<Record<string, string>> = {
  b: "8",
  w: "16",
  d: "32",
  q: "64",
  o: "128",
  v: "",
  z: "",
  y: "32/64",
  n: "",
};
const WORDS: Readonly<Record<string, string>> = {
  RvMw: "r/m16",
  Sw: "sreg",
  Cn: "cr",
  Dn: "dr",
  Ap: "selector:offset",
  Mp: "far [m]",
  AL: "al",
  CL: "cl",
  DX: "dx",
  rAX: "ax/eax/rax",
  eAX: "ax/eax",
  Ibs: "imm8",
};

function operandText(token: string): string {
  const word = WORDS[token];
  if (word !== undefined) return word;
  const size = SIZES[token.slice(1)] ?? "";
  switch (token[0]) {
    case "E":
      return `r/m${size}`;
    case "G":
    case "Z":
    case "R":
    case "B":
      return `r${size}`;
    case "M":
      return `m${size}`;
    case "O":
      return "[address]";
    case "I":
      return `imm${size}`;
    case "J":
      return "label";
    default:
      return token.toLowerCase();
  }
}

/** For example `add r/m, imm8`. */
export function formText(name: string, form: Form): string {
  const tokens = form.string || form.tokens[0] === "XL" ? [] : form.tokens;
  return `${name}${tokens.length ? ` ${tokens.map(operandText).join(", ")}` : ""}`;
}
