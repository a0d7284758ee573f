export { alphabet, type CheckEvent, eventText, type Race, type Schedule } from "./event.ts";
export { replaySchedule } from "./replay.ts";
export { type CheckOptions, type CheckReport, checkPolicy, countSchedules, type Finding, shrink } from "./search.ts";
export { checkText } from "./text.ts";
export { runSchedule, type Violation, type ViolationKind } from "./world.ts";
