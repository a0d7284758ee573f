/** Instructions with mandatory prefixes: the 0F38 and 0F3A maps, VEX-encoded BMI, bit counts of the 0F map. */
import { row } from "./row.ts";

row("f3 0f b8", "popcnt", "Gv,Ev", "popcnt", "popcnt");
row("f3 0f bc", "tzcnt", "Gv,Ev", "tzcnt", "bmi1 else");
row("f3 0f bd", "lzcnt", "Gv,Ev", "lzcnt", "lzcnt else");

row("np 0f 38 f0", "movbe", "Gv,Mv", "movbeLoad", "movbe");
row("np 0f 38 f1", "movbe", "Mv,Gv", "movbeStore", "movbe");
row("f2 0f 38 f0", "crc32", "Gy,Eb", "crc32Eb", "sse42");
row("f2 0f 38 f1", "crc32", "Gu,Ev", "crc32Ev", "sse42");
row("66 0f 38 f6", "adcx", "Gy,Ey", "adcx", "adx");
row("f3 0f 38 f6", "adox", "Gy,Ey", "adox", "adx");
row("66 0f 38 80", "invept", "Gn,Mo", "invept", "natural ends");
row("66 0f 38 81", "invvpid", "Gn,Mo", "invvpid", "natural ends");
row("66 0f 38 82", "invpcid", "Gn,Mo", "invpcid", "natural ends invpcid");

row("vex n0 0f 38 f2", "andn", "Gy,By,Ey", "andn", "bmi1");
row("vex n0 0f 38 f3 /1", "blsr", "By,Ey", "blsr", "bmi1");
row("vex n0 0f 38 f3 /2", "blsmsk", "By,Ey", "blsmsk", "bmi1");
row("vex n0 0f 38 f3 /3", "blsi", "By,Ey", "blsi", "bmi1");
row("vex n0 0f 38 f5", "bzhi", "Gy,Ey,By", "bzhi", "bmi2");
row("vex f3 0f 38 f5", "pext", "Gy,By,Ey", "pext", "bmi2");
row("vex f2 0f 38 f5", "pdep", "Gy,By,Ey", "pdep", "bmi2");
row("vex f2 0f 38 f6", "mulx", "Gy,By,Ey", "mulx", "bmi2");
row("vex n0 0f 38 f7", "bextr", "Gy,Ey,By", "bextr", "bmi1");
row("vex 66 0f 38 f7", "shlx", "Gy,Ey,By", "shlx", "bmi2");
row("vex f3 0f 38 f7", "sarx", "Gy,Ey,By", "sarx", "bmi2");
row("vex f2 0f 38 f7", "shrx", "Gy,Ey,By", "shrx", "bmi2");
row("vex f2 0f 3a f0", "rorx", "Gy,Ey,Ib", "rorx", "bmi2");
