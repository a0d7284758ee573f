// Types that abi/ constants carry for asc, as tsc sees them.
declare type u8 = number;
declare type u16 = number;
declare type u32 = number;
declare type i32 = number;
