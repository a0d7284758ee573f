/** A register by name. `size` is in bytes; `high` AH to BH; `rex` a byte register that only a REX prefix can name. */
export type Register =
  | { readonly kind: "gpr"; readonly n: number; readonly size: number; readonly high: boolean; readonly rex: boolean }
  | { readonly kind: "segment" | "control" | "debug"; readonly n: number }
  | { readonly kind: "rip" };

const WORDS = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];

function table(): Map<string, Register> {
  const map = new Map<string, Register>();
  const gpr = (name: string, n: number, size: number, high = false, rex = false) =>
    map.set(name, { kind: "gpr", n, size, high, rex });
  for (const [n, word] of WORDS.entries()) {
    gpr(word, n, 2);
    gpr(`e${word}`, n, 4);
    gpr(`r${word}`, n, 8);
    if (n >= 4) gpr(`${word}l`, n, 1, false, true);
    else {
      gpr(`${word[0]}l`, n, 1);
      gpr(`${word[0]}h`, n + 4, 1, true);
    }
  }
  for (let n = 8; n < 16; n++) {
    gpr(`r${n}`, n, 8);
    gpr(`r${n}d`, n, 4);
    gpr(`r${n}w`, n, 2);
    gpr(`r${n}b`, n, 1);
  }
  for (const [n, name] of ["es", "cs", "ss", "ds", "fs", "gs"].entries()) map.set(name, { kind: "segment", n });
  for (const n of [0, 2, 3, 4, 8]) map.set(`cr${n}`, { kind: "control", n });
  for (let n = 0; n < 8; n++) map.set(`dr${n}`, { kind: "debug", n });
  map.set("rip", { kind: "rip" });
  return map;
}

export const REGISTERS: ReadonlyMap<string, Register> = table();
