// Address widths of the processor model. CPUID 80000008H.EAX must say the same (test/vmx/capabilities.test.ts).
export const PHYSICAL_WIDTH = 46;
export const LINEAR_WIDTH = 48;
