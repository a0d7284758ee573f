// Task switches of JMP, CALL and IRET. @sdm 2A "JMP-Jump", "CALL-Call Procedure", "IRET/IRETD/IRETQ-Interrupt Return"
import { R_LEN } from "../abi/record";
import { EV_DEFERRED, EXTRA, RIP, SEG_TR, SEGS, SG_BASE, STOP, StopBit } from "../abi/state";
import { SA_P, SEL_ERROR, TYPE_TASK_GATE, VEC_NP } from "../abi/x86";
import { readSystem } from "../memory/access";
import { getRflags } from "../state/flags";
import { aborted } from "../state/stop";
import { descriptorAttr, gateSelector, systemType, tableAddress } from "../system/descriptor";
import { switchTask, TASK_NEW_FAULT, TaskSource } from "../system/taskSwitch";
import { fault } from "./farTarget";

function go(selector: u32, source: TaskSource, rec: usize): void {
  const result = switchTask(selector, source, load<u64>(RIP), getRflags(), 0, load<u8>(rec, R_LEN), false, 0);
  if (result != TASK_NEW_FAULT) return;
  // the instruction has completed: the fault comes before the first one of the new task
  store<u32>(STOP, load<u32>(STOP) & ~StopBit.Event);
  store<u32>(EV_DEFERRED, 1);
  store<u32>(EXTRA, 1);
}

/** Far JMP or CALL; d: the TSS descriptor or task gate of selector, whose type and DPL are checked. */
export function toTask(selector: u32, d: u64, call: bool, rec: usize): void {
  const attr = descriptorAttr(d);
  const source = call ? TaskSource.Call : TaskSource.Jmp;
  if (systemType(attr) != TYPE_TASK_GATE) go(selector, source, rec);
  else if (!(attr & SA_P)) fault(VEC_NP, selector & SEL_ERROR);
  else go(gateSelector(d), source, rec);
}

/** IRET with NT: back to the task that the link of the current TSS names. */
export function returnToTask(rec: usize): void {
  const link = <u32>readSystem<u16>(tableAddress(load<u64>(SEGS + SEG_TR + SG_BASE)));
  if (!aborted()) go(link, TaskSource.Iret, rec);
}
