// Placeholder signature; the VMX work replaces the body.
export function vmxCapability(_index: u32): u64 { return 0; }
