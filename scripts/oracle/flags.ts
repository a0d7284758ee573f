// What the manual leaves undefined, and which flags an instruction reads. @sdm 2 "Flags Affected" of each instruction

export const CF = 1;
export const PF = 4;
export const AF = 0x10;
export const ZF = 0x40;
export const SF = 0x80;
export const OF = 0x800;
export const ALL = CF | PF | AF | ZF | SF | OF;

export interface FlagEffect {
  /** Flags whose old value matters. */
  readonly reads: number;
  /** Flags that certainly get a defined value. */
  readonly writes: number;
  /** Flags that may be left undefined. */
  readonly undefined: number;
  /** The result itself is undefined: the case is not worth running. */
  readonly noResult?: boolean;
}

const NONE: FlagEffect = { reads: 0, writes: 0, undefined: 0 };
const effect = (reads: number, writes: number, undefinedFlags: number): FlagEffect => ({
  reads,
  writes,
  undefined: undefinedFlags,
});

const ARITHMETIC = effect(0, ALL, 0);
const WITH_CARRY = effect(CF, ALL, 0);
const LOGIC = effect(0, ALL & ~AF, AF);
const MULTIPLY = effect(0, CF | OF, SF | ZF | AF | PF);
const DECIMAL = effect(CF | AF, CF | AF | SF | ZF | PF, OF);
const ASCII = effect(AF, CF | AF, OF | SF | ZF | PF);
const LOW_BYTE = effect(0, SF | ZF | PF, OF | AF | CF);
const SCAN = effect(0, ZF, CF | OF | SF | AF | PF);
const BIT = effect(0, CF, OF | SF | AF | PF);
const COUNT_ZEROS = effect(0, CF | ZF, OF | SF | PF | AF);

const BY_NAME: Readonly<Record<string, FlagEffect>> = {
  add: ARITHMETIC,
  sub: ARITHMETIC,
  cmp: ARITHMETIC,
  neg: ARITHMETIC,
  xadd: ARITHMETIC,
  cmpxchg: ARITHMETIC,
  adc: WITH_CARRY,
  sbb: WITH_CARRY,
  inc: effect(0, ALL & ~CF, 0),
  dec: effect(0, ALL & ~CF, 0),
  and: LOGIC,
  or: LOGIC,
  xor: LOGIC,
  test: LOGIC,
  mul: MULTIPLY,
  imul: MULTIPLY,
  div: effect(0, 0, ALL),
  idiv: effect(0, 0, ALL),
  daa: DECIMAL,
  das: DECIMAL,
  aaa: ASCII,
  aas: ASCII,
  aam: LOW_BYTE,
  aad: LOW_BYTE,
  bsf: SCAN,
  bsr: SCAN,
  bt: BIT,
  bts: BIT,
  btr: BIT,
  btc: BIT,
  tzcnt: COUNT_ZEROS,
  lzcnt: COUNT_ZEROS,
  popcnt: ARITHMETIC,
  andn: effect(0, SF | ZF | OF | CF, AF | PF),
  bextr: effect(0, ZF | OF | CF, AF | SF | PF),
  blsi: effect(0, SF | ZF | OF | CF, AF | PF),
  blsmsk: effect(0, SF | ZF | OF | CF, AF | PF),
  blsr: effect(0, SF | ZF | OF | CF, AF | PF),
  bzhi: effect(0, SF | ZF | OF | CF, AF | PF),
  adcx: effect(CF, CF, 0),
  adox: effect(OF, OF, 0),
  cmpxchg8b: effect(0, ZF, 0),
  cmpxchg16b: effect(0, ZF, 0),
  arpl: effect(0, ZF, 0),
  verr: effect(0, ZF, 0),
  verw: effect(0, ZF, 0),
  lar: effect(0, ZF, 0),
  lsl: effect(0, ZF, 0),
  cmc: effect(CF, CF, 0),
  clc: effect(0, CF, 0),
  stc: effect(0, CF, 0),
  salc: effect(CF, 0, 0),
  sahf: effect(0, CF | PF | AF | ZF | SF, 0),
  lahf: effect(CF | PF | AF | ZF | SF, 0, 0),
  pushf: effect(ALL, 0, 0),
  popf: ARITHMETIC,
  into: effect(OF, 0, 0),
  rdrand: ARITHMETIC,
  rdseed: ARITHMETIC,
};

/** Flags read by conditions 2k and 2k + 1 of Jcc, SETcc and CMOVcc. */
const CONDITION = [OF, CF, ZF, CF | ZF, SF, PF, SF | OF, ZF | SF | OF];

function condition(name: string): FlagEffect | undefined {
  return name.startsWith("cc:") ? effect(CONDITION[Number(name.slice(3)) >> 1]!, 0, 0) : undefined;
}

const ROTATES = new Set(["rol", "ror", "rcl", "rcr"]);
const SHIFTS = new Set(["shl", "shr", "sal", "sar"]);

/** `count` is undefined where it is not known before the case runs. */
function shift(name: string, width: number, count: number | undefined): FlagEffect {
  const reads = name.startsWith("rc") ? CF : 0;
  if (count === undefined) {
    return effect(reads, 0, ROTATES.has(name) ? OF : OF | AF | CF);
  }
  const n = count & (width === 64 ? 63 : 31);
  if (n === 0) return NONE;
  const of_ = n === 1 ? 0 : OF;
  if (ROTATES.has(name)) return effect(reads, CF | (OF & ~of_), of_);
  const cf = name !== "sar" && n >= width ? CF : 0;
  return effect(0, ALL & ~(AF | of_ | cf), AF | of_ | cf);
}

function doubleShift(width: number, count: number | undefined): FlagEffect {
  if (count === undefined) return { ...effect(0, 0, OF | AF), noResult: width === 16 };
  const n = count & (width === 64 ? 63 : 31);
  if (n === 0) return NONE;
  const of_ = n === 1 ? 0 : OF;
  return { ...effect(0, ALL & ~(AF | of_), AF | of_), noResult: n > width };
}

/** `width` is the operand size in bits; `count` the shift count where it is known. */
export function flagEffect(name: string, width: number, count: number | undefined): FlagEffect {
  if (SHIFTS.has(name) || ROTATES.has(name)) return shift(name, width, count);
  if (name === "shld" || name === "shrd") return doubleShift(width, count);
  if (name === "cmps" || name === "scas") return effect(0, 0, 0);
  if (name === "loope" || name === "loopne") return effect(ZF, 0, 0);
  return BY_NAME[name] ?? condition(name) ?? NONE;
}
