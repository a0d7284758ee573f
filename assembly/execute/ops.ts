// Members of the families of instructions that share a form.
export enum AluOp {
  add,
  or,
  adc,
  sbb,
  and,
  sub,
  xor,
  cmp,
  test,
}

export enum UnaryOp {
  inc,
  dec,
  not,
  neg,
}

export enum ShiftOp {
  rol,
  ror,
  rcl,
  rcr,
  shl,
  shr,
  sar,
}

export enum BitOp {
  bt,
  bts,
  btr,
  btc,
}
