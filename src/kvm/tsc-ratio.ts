/** Frequency that the emulated host reports: one tick a nanosecond. */
export const TSC_KHZ = 1_000_000;
/** Bits of fraction in a TSC multiplier. @kvm kvm_caps.tsc_scaling_ratio_frac_bits */
export const TSC_FRACTION = 48n;
/** The multiplier of a guest that runs at the host's frequency. @kvm default_tsc_scaling_ratio */
export const DEFAULT_TSC_RATIO: bigint = 1n << TSC_FRACTION;
