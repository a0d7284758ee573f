/** Places in the kernel's paths where the host may be preempted, in the order of one trip. */
export const SCHEDULE_POINTS = [
  "vcpu_load",
  "vcpu_enter_guest",
  "handle_exit",
  "handle_exit_done",
  /** Between the test of loaded_cpu_state and the WRMSR. */
  "vmx_set_msr",
  "vcpu_put",
] as const;
export type SchedulePoint = (typeof SCHEDULE_POINTS)[number];
