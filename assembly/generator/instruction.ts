// One record -> Wasm. False: not generated, the region ends before it.
import { R_ADDR_SHIFT, R_DST, R_FLAGS, R_IMM, R_SIZE, RecordFlag } from "../abi/record";
import { EFLAGS_REST } from "../abi/state";
import { FLAG_DF } from "../abi/x86";
import { alu, immediate, unary } from "./arith";
import { bitTest, compareExchange, doubleShift, exchangeAdd, scan } from "./bits";
import { addThrough, bmi, movbe, swapBytes } from "./bmi";
import { callHandler } from "./calls";
import { get32, getR, setR, wide } from "./context";
import {
  get,
  I32_ADD,
  I32_AND,
  I32_EXTEND8_S,
  I32_EXTEND16_S,
  I32_LOAD,
  I32_OR,
  I32_SHR_S,
  I32_STORE,
  I32_WRAP,
  I32_XOR,
  I64_ADD,
  I64_EXTEND_S,
  I64_EXTEND_U,
  I64_SHR_S,
  i32c,
  i64c,
  mem,
  op,
  set,
  W_SELECT,
} from "./emit";
import { pushCF, pushCondition, setCFKeepOF } from "./flags";
import { loadAh, movFromSegment, pushFlags, pushSegment, storeAh } from "./flagsAndSelectors";
import { addressable, formOf, isMemory, kindOf, memberOf, sizeOf } from "./kinds";
import {
  FORM_MI,
  FORM_MR,
  FORM_RI,
  FORM_RM,
  FORM_RR,
  KIND_AAM,
  KIND_ADCX,
  KIND_ADOX,
  KIND_ALU,
  KIND_ANDN,
  KIND_BEXTR,
  KIND_BIT,
  KIND_BIT_IMM,
  KIND_BLSI,
  KIND_BLSMSK,
  KIND_BLSR,
  KIND_BSF,
  KIND_BSR,
  KIND_BSWAP,
  KIND_BZHI,
  KIND_CBW,
  KIND_CLC,
  KIND_CLD,
  KIND_CMC,
  KIND_CMOV,
  KIND_CMPS,
  KIND_CMPXCHG,
  KIND_CWD,
  KIND_DAA,
  KIND_DIV,
  KIND_DOUBLE_SHIFT,
  KIND_FENCE,
  KIND_IDIV,
  KIND_IMUL,
  KIND_IMUL_GE,
  KIND_IMUL_IMM,
  KIND_LAHF,
  KIND_LEA,
  KIND_LEAVE,
  KIND_LODS,
  KIND_LZCNT,
  KIND_MOV,
  KIND_MOV_FROM_SEG,
  KIND_MOV_LOAD_OFFSET,
  KIND_MOV_STORE_OFFSET,
  KIND_MOVBE_LOAD,
  KIND_MOVBE_STORE,
  KIND_MOVNTI,
  KIND_MOVS,
  KIND_MOVSX8,
  KIND_MOVSX16,
  KIND_MOVSXD,
  KIND_MOVZX8,
  KIND_MOVZX16,
  KIND_MUL,
  KIND_MULX,
  KIND_NOP,
  KIND_NOP90,
  KIND_POP_REG,
  KIND_POPA,
  KIND_POPCNT,
  KIND_PUSH_E,
  KIND_PUSH_IMM,
  KIND_PUSH_REG,
  KIND_PUSH_SEG,
  KIND_PUSHA,
  KIND_PUSHF,
  KIND_RORX,
  KIND_SAHF,
  KIND_SARX,
  KIND_SCAS,
  KIND_SET,
  KIND_SHIFT,
  KIND_SHLX,
  KIND_SHRX,
  KIND_STC,
  KIND_STD,
  KIND_STOS,
  KIND_TZCNT,
  KIND_UNARY,
  KIND_XADD,
  KIND_XCHG,
  KIND_XCHG_ACCUMULATOR,
  KIND_XLAT,
} from "./kinds.generated";
import { L_HOST, L_T0, L_U0 } from "./locals";
import { divide, imulTruncated, multiply } from "./multiply";
import {
  address,
  getDst,
  getSlot,
  getSrc,
  inSegment,
  loadHost,
  offset,
  probeMemory,
  probeTop,
  readMemory,
  readSource,
  readTop,
  setDst,
  setSlot,
  setSrc,
  storeHost,
  truncateOffset,
} from "./operand";
import { shift } from "./shift";
import { moveStack, popAll, pushAll, pushValue, readStackAt, readStackTop, stackFrom } from "./stack";
import { strings } from "./strings";

function mov(rec: usize, size: u32, form: u32): void {
  if (form == FORM_RR) {
    getSrc(rec, size);
    setDst(rec, size);
  } else if (form == FORM_RI) {
    immediate(rec, size);
    setDst(rec, size);
  } else if (form == FORM_RM) {
    readMemory(rec, size, false);
    setDst(rec, size);
  } else if (form == FORM_MR || form == FORM_MI) {
    probeMemory(rec, size);
    get(L_HOST);
    if (form == FORM_MR) getSrc(rec, size);
    else immediate(rec, size);
    storeHost(size);
  }
}

/** An i32 on the stack becomes a destination of `size` bytes; `sign` matters for 8. */
function extendTo(rec: usize, size: u32, sign: bool): void {
  if (size == 8) op(sign ? I64_EXTEND_S : I64_EXTEND_U);
  setDst(rec, size);
}

function exchange(rec: usize, size: u32): void {
  const temp = size == 8 ? L_U0 : L_T0;
  if (isMemory(rec)) {
    address(rec, size, true);
    probeTop(size);
    loadHost(size);
    set(temp);
    get(L_HOST);
    getSrc(rec, size);
    storeHost(size);
    get(temp);
    setSrc(rec, size);
    return;
  }
  getDst(rec, size);
  set(temp);
  getSrc(rec, size);
  setDst(rec, size);
  get(temp);
  setSrc(rec, size);
}

/** The instructions that do not end a block. */
export function generate(rec: usize): bool {
  const kind = kindOf(rec);
  const size = sizeOf(rec);
  const form = formOf(rec);
  if (isMemory(rec) && kind != KIND_NOP && !addressable(rec)) return false;
  if (size == 8 && !wide) return false;
  if (load<u8>(rec, R_FLAGS) & RecordFlag.SoftImm && kind != KIND_ALU && kind != KIND_MOV && kind != KIND_PUSH_IMM) {
    return false;
  }
  switch (kind) {
    case KIND_ALU:
      return alu(rec, memberOf(rec), size, form);
    case KIND_MOV:
      mov(rec, size, form);
      return true;
    case KIND_UNARY:
      return unary(rec, memberOf(rec), size);
    case KIND_SHIFT:
      return shift(rec, memberOf(rec), size, form);
    case KIND_LEA:
      offset(rec);
      if (wide && size < 8) op(I32_WRAP);
      setDst(rec, size);
      return true;
    case KIND_MOVZX8:
      readSource(rec, 1, false);
      extendTo(rec, size, false);
      return true;
    case KIND_MOVZX16:
      readSource(rec, 2, false);
      extendTo(rec, size, false);
      return true;
    case KIND_MOVSX8:
      readSource(rec, 1, true);
      extendTo(rec, size, true);
      return true;
    case KIND_MOVSX16:
      readSource(rec, 2, true);
      extendTo(rec, size, true);
      return true;
    case KIND_MOVSXD:
      if (size == 2) return false;
      readSource(rec, 4, false);
      extendTo(rec, size, true);
      return true;
    case KIND_PUSH_REG:
      getDst(rec, size);
      pushValue(size);
      return true;
    case KIND_PUSH_IMM:
      immediate(rec, size);
      pushValue(size);
      return true;
    case KIND_PUSH_E:
      if (isMemory(rec)) readMemory(rec, size, false);
      else getDst(rec, size);
      pushValue(size);
      return true;
    case KIND_POP_REG: {
      readStackTop(size);
      set(size == 8 ? L_U0 : L_T0);
      moveStack(size);
      get(size == 8 ? L_U0 : L_T0);
      setDst(rec, size);
      return true;
    }
    case KIND_SET:
      if (isMemory(rec)) {
        probeMemory(rec, 1);
        get(L_HOST);
        pushCondition(memberOf(rec));
        storeHost(1);
      } else {
        pushCondition(memberOf(rec));
        setDst(rec, 1);
      }
      return true;
    case KIND_CMOV:
      readSource(rec, size, false);
      getDst(rec, size);
      pushCondition(memberOf(rec));
      op(W_SELECT);
      setDst(rec, size);
      return true;
    case KIND_IMUL_GE:
      return imulTruncated(rec, size, false);
    case KIND_IMUL_IMM:
      return imulTruncated(rec, size, true);
    case KIND_MUL:
      return multiply(rec, size, false);
    case KIND_IMUL:
      return multiply(rec, size, true);
    case KIND_DIV:
      return divide(rec, size, false);
    case KIND_IDIV:
      return divide(rec, size, true);
    case KIND_CWD:
      if (size == 8) {
        getR(0);
        i64c(63);
        op(I64_SHR_S);
        setR(16);
      } else {
        getSlot(0, size);
        if (size == 2) op(I32_EXTEND16_S);
        i32c(31);
        op(I32_SHR_S);
        setSlot(16, size);
      }
      return true;
    case KIND_CBW:
      if (size == 8) {
        get32(0);
        op(I64_EXTEND_S);
        setR(0);
      } else {
        getSlot(0, size == 2 ? 1 : 2);
        op(size == 2 ? I32_EXTEND8_S : I32_EXTEND16_S);
        setSlot(0, size);
      }
      return true;
    case KIND_NOP:
    case KIND_FENCE:
      return true;
    case KIND_NOP90:
      // PAUSE may exit, and REX.B makes it an XCHG
      return !(load<u8>(rec, R_FLAGS) & RecordFlag.Rep) && load<u8>(rec, R_DST) == 0;
    case KIND_XCHG:
      exchange(rec, size);
      return true;
    case KIND_XCHG_ACCUMULATOR: {
      const temp = size == 8 ? L_U0 : L_T0;
      getSlot(0, size);
      set(temp);
      getDst(rec, size);
      setSlot(0, size);
      get(temp);
      setDst(rec, size);
      return true;
    }
    case KIND_BSWAP:
      if (size == 2) return false;
      getDst(rec, size);
      swapBytes(size);
      setDst(rec, size);
      return true;
    case KIND_LEAVE:
      if (size == 2 && wide) return false;
      readStackAt(40, size);
      set(size == 8 ? L_U0 : L_T0);
      stackFrom(40, size);
      get(size == 8 ? L_U0 : L_T0);
      setSlot(40, size);
      return true;
    case KIND_PUSHF:
      return pushFlags(rec);
    case KIND_LAHF:
      loadAh();
      return true;
    case KIND_SAHF:
      storeAh();
      return true;
    case KIND_PUSHA:
      pushAll(size);
      return true;
    case KIND_POPA:
      popAll(size);
      return true;
    case KIND_PUSH_SEG:
      return pushSegment(rec);
    case KIND_MOV_FROM_SEG:
      return movFromSegment(rec);
    case KIND_BIT:
    case KIND_BIT_IMM:
      bitTest(rec, memberOf(rec), size, kind == KIND_BIT_IMM);
      return true;
    case KIND_DOUBLE_SHIFT:
      return doubleShift(rec, memberOf(rec) == 0, size, form);
    case KIND_BSF:
    case KIND_BSR:
    case KIND_POPCNT:
    case KIND_TZCNT:
    case KIND_LZCNT:
      scan(rec, kind);
      return true;
    case KIND_CMPXCHG:
      compareExchange(rec, size);
      return true;
    case KIND_XADD:
      exchangeAdd(rec, size);
      return true;
    case KIND_MOVBE_LOAD:
    case KIND_MOVBE_STORE:
      movbe(rec, kind);
      return true;
    case KIND_MOVNTI: {
      const bytes = u32(load<u8>(rec, R_SIZE));
      probeMemory(rec, bytes);
      get(L_HOST);
      getSrc(rec, bytes);
      storeHost(bytes);
      return true;
    }
    case KIND_ANDN:
    case KIND_BLSR:
    case KIND_BLSMSK:
    case KIND_BLSI:
    case KIND_BEXTR:
    case KIND_BZHI:
    case KIND_MULX:
    case KIND_SHLX:
    case KIND_SHRX:
    case KIND_SARX:
    case KIND_RORX:
      bmi(rec, kind);
      return true;
    case KIND_ADCX:
    case KIND_ADOX:
      addThrough(rec, kind);
      return true;
    case KIND_CLD:
    case KIND_STD:
      i32c(0);
      i32c(0);
      mem(I32_LOAD, EFLAGS_REST);
      i32c(kind == KIND_CLD ? ~FLAG_DF : FLAG_DF);
      op(kind == KIND_CLD ? I32_AND : I32_OR);
      mem(I32_STORE, EFLAGS_REST);
      return true;
    case KIND_XLAT:
      getR(24);
      getSlot(0, 1);
      if (wide) op(I64_EXTEND_U);
      op(wide ? I64_ADD : I32_ADD);
      truncateOffset(load<u8>(rec, R_ADDR_SHIFT));
      inSegment(rec, 1, false);
      readTop(1, false);
      setSlot(0, 1);
      return true;
    case KIND_CMPS:
    case KIND_MOVS:
    case KIND_STOS:
    case KIND_LODS:
    case KIND_SCAS:
      return strings(rec, kind, size);
    case KIND_CLC:
      i32c(0);
      setCFKeepOF();
      return true;
    case KIND_STC:
      i32c(1);
      setCFKeepOF();
      return true;
    case KIND_CMC:
      pushCF();
      i32c(1);
      op(I32_XOR);
      setCFKeepOF();
      return true;
    case KIND_MOV_LOAD_OFFSET:
      if (wide) return false;
      i32c(load<i32>(rec, R_IMM));
      inSegment(rec, size, false);
      readTop(size, false);
      setSlot(0, size);
      return true;
    case KIND_MOV_STORE_OFFSET:
      if (wide) return false;
      i32c(load<i32>(rec, R_IMM));
      inSegment(rec, size, true);
      probeTop(size);
      get(L_HOST);
      getSlot(0, size);
      storeHost(size);
      return true;
    default:
      if (kind < KIND_DAA || isMemory(rec) || (kind == KIND_AAM && !load<u8>(rec, R_IMM))) return false;
      callHandler(rec);
      return true;
  }
}
