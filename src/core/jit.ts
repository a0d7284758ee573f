// Generated code. The generator, a module of its own, is made when the first block of a processor is hot; the function bodies
// that it writes into the core's memory become a module whose functions go into the core's table. By default all that is
// compiled at once; in the background where that is asked for, or where an engine refuses to compile on the calling thread.
import { instantiateSync } from "@assemblyscript/loader";
import { MEMORY_MIN } from "../../assembly/abi/layout.ts";
import type { CoreExports, GeneratorExports } from "./exports.ts";

/** The table grows by this many slots (JIT_REGION_MAX is the most). */
const SLOTS = 1024;
/** jitCompile's answer when the module comes later. */
const LATER = 0x8000_0000;

export interface JitOptions {
  /** A block is hot after this many runs; 0: no code is generated. Default 500. */
  readonly threshold?: number;
  /**
   * Compile in the background, so that no call of run() waits for it; a module is in use from the first run() after it
   * is ready, which needs a turn of the event loop. Default false.
   */
  readonly async?: boolean;
  /** Compiles a module in the background. Default WebAssembly.compile. */
  readonly compile?: (bytes: Uint8Array<ArrayBuffer>) => Promise<WebAssembly.Module>;
}

export interface JitStatistics {
  readonly modules: number;
  readonly functions: number;
  /** Size of the modules. */
  readonly bytes: number;
  /** Time the calling thread spent in compiling and linking. */
  readonly milliseconds: number;
}
/** Functions 0 to 3 of a module: `jitStep`, `jitStored`, `jitFill` and `jitPlain` of the core. */
const IMPORTED = 4;

const unsigned = (value: number): number[] => {
  const out: number[] = [];
  for (let v = value; ; v >>>= 7) {
    if (v < 0x80) {
      out.push(v);
      return out;
    }
    out.push((v & 0x7f) | 0x80);
  }
};
const section = (id: number, body: readonly number[]): number[] => [id, ...unsigned(body.length), ...body];

/** A module of `count` functions (i32, i32) -> i32 over the imported memory and jitStep; `bodies` carry their sizes. */
function moduleOf(count: number, bodies: Uint8Array): Uint8Array<ArrayBuffer> {
  const names: number[] = [];
  for (let i = 0; i < count; i++) {
    const name = Array.from(`${i}`, (c) => c.charCodeAt(0));
    names.push(...unsigned(name.length), ...name, 0, ...unsigned(i + IMPORTED));
  }
  const counted = unsigned(count);
  const head = [
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [
      4,
      ...[0x60, 2, 0x7f, 0x7f, 1, 0x7f],
      ...[0x60, 3, 0x7f, 0x7e, 0x7f, 1, 0x7f],
      ...[0x60, 3, 0x7e, 0x7f, 0x7f, 1, 0x7f],
      ...[0x60, 1, 0x7f, 0],
    ]),
    ...section(2, [
      5,
      ...[1, 0x6d, 1, 0x6d, 2, 0, ...unsigned(MEMORY_MIN)],
      ...[1, 0x6d, 1, 0x73, 0, 1],
      ...[1, 0x6d, 1, 0x77, 0, 0],
      ...[1, 0x6d, 1, 0x66, 0, 2],
      ...[1, 0x6d, 1, 0x70, 0, 3],
    ]),
    ...section(3, [...counted, ...Array<number>(count).fill(0)]),
    ...section(7, [...counted, ...names]),
    ...[10, ...unsigned(counted.length + bodies.length), ...counted],
  ];
  const out = new Uint8Array(head.length + bodies.length);
  out.set(head);
  out.set(bodies, head.length);
  return out;
}

let warned = false;

/** Engines bound what they compile or instantiate on a page's main thread. */
const isBound = (error: unknown): boolean => (error as Error | undefined)?.name === "RangeError";

/** The generator as a module: its bytes, and what they were compiled to, once for all processors. */
export interface GeneratorModule {
  readonly bytes: () => Uint8Array<ArrayBuffer>;
  compiled?: WebAssembly.Module | undefined;
}

/** Generated code of one processor. */
export class Linker {
  readonly #module: GeneratorModule;
  #core: CoreExports | undefined;
  #generator: GeneratorExports | undefined;
  /** The generator is being compiled in the background. */
  #expected = false;
  #base = 0;
  #async = false;
  #compile: NonNullable<JitOptions["compile"]> = (bytes) => WebAssembly.compile(bytes);
  #arrived: (() => void)[] = [];
  #statistics = { modules: 0, functions: 0, bytes: 0, milliseconds: 0 };

  constructor(module: GeneratorModule) {
    this.#module = module;
  }

  get statistics(): JitStatistics {
    return { ...this.#statistics };
  }

  forgetStatistics(): void {
    this.#statistics = { modules: 0, functions: 0, bytes: 0, milliseconds: 0 };
  }

  attach(core: CoreExports): void {
    this.#core = core;
  }

  configure(options: JitOptions): void {
    if (options.async !== undefined) this.#async = options.async;
    if (options.compile !== undefined) this.#compile = options.compile;
    if (options.threshold !== undefined) this.#core?.setJit(options.threshold);
  }

  /** Puts the modules that are ready into use. Call it only while the processor stands still. */
  settle(): void {
    if (this.#arrived.length !== 0) this.#linkArrived();
  }

  #linkArrived(): void {
    const arrived = this.#arrived;
    this.#arrived = [];
    for (const link of arrived) link();
  }

  /** The import of the core: see assembly/imports.ts. Requests for a generator that is yet to come are lost, and come again. */
  readonly jitGenerate = (): number => {
    try {
      this.#generator ??= this.#makeGenerator();
    } catch (error) {
      if (!isBound(error)) return this.#refuse(error, this.#module.bytes());
      this.#async = true;
      this.#expectGenerator();
    }
    return this.#generator ? this.#generator.generate() : 1;
  };

  /** Undefined: it is compiled in the background. */
  #makeGenerator(): GeneratorExports | undefined {
    const module = this.#module;
    const core = this.#core!;
    const start = performance.now();
    if (!module.compiled) {
      if (this.#async) {
        this.#expectGenerator();
        return undefined;
      }
      module.compiled = new WebAssembly.Module(module.bytes());
    }
    // asc names an import's module after the file that declares the function
    const imports = {
      env: { memory: core.memory },
      core: core as unknown as WebAssembly.ModuleImports,
      host: { jitCompile: this.#jitCompile },
    };
    const { instance } = instantiateSync(module.compiled, imports);
    this.#statistics.milliseconds += performance.now() - start;
    return instance.exports as unknown as GeneratorExports;
  }

  #expectGenerator(): void {
    if (this.#expected) return;
    this.#expected = true;
    const module = this.#module;
    const bytes = module.bytes();
    Promise.resolve(bytes)
      .then((bytes) => this.#compile(bytes))
      .then(
        (compiled) => {
          module.compiled = compiled;
        },
        (error: unknown) => {
          this.#arrived.push(() => this.#core!.setJit(this.#refuse(error, bytes)));
        },
      );
  }

  /** The import of the generator: see assembly/generator/host.ts. */
  readonly #jitCompile = (code: number, bytes: number, count: number, places: number, ticket: number): number => {
    const core = this.#core;
    if (!core) return 0;
    const { memory, table } = core;
    const start = performance.now();
    if (this.#base === 0) this.#base = table.grow(SLOTS);
    const base = this.#base;
    const generated = moduleOf(count, new Uint8Array(memory.buffer, code, bytes));
    const place = new Uint32Array(memory.buffer, places, count);
    const imports = { m: { m: memory, s: core.jitStep, w: core.jitStored, f: core.jitFill, p: core.jitPlain } };
    for (const one of place) while (base + one >= table.length) table.grow(SLOTS);
    const done = () => {
      this.#statistics.modules++;
      this.#statistics.functions += count;
      this.#statistics.bytes += generated.length;
      this.#statistics.milliseconds += performance.now() - start;
    };
    if (!this.#async) {
      try {
        const { exports } = new WebAssembly.Instance(new WebAssembly.Module(generated), imports);
        for (let i = 0; i < count; i++) table.set(base + place[i]!, exports[i]);
        done();
        return base;
      } catch (error) {
        if (!isBound(error)) return this.#refuse(error, generated);
        this.#async = true;
      }
    }
    const wanted = Array.from(place);
    const link = ({ exports }: WebAssembly.Instance) => {
      const arrival = performance.now();
      for (const [i, where] of wanted.entries()) {
        // 0: the region was dropped meanwhile
        const slot = this.#generator!.linkRegion(where, ticket, base);
        if (slot !== 0) table.set(slot, exports[i]);
      }
      this.#statistics.milliseconds += performance.now() - arrival;
    };
    Promise.resolve(generated)
      .then((module) => this.#compile(module))
      .then((module) => WebAssembly.instantiate(module, imports))
      .then(
        (instance) => this.#arrived.push(() => link(instance)),
        (error: unknown) => this.#arrived.push(() => core.setJit(this.#refuse(error, generated))),
      );
    done();
    return (base | LATER) >>> 0;
  };

  /** Nothing more is compiled here: 0. */
  #refuse(error: unknown, module: Uint8Array<ArrayBuffer>): 0 {
    if (warned) return 0;
    warned = true;
    const fault = WebAssembly.validate(module) ? "" : "; the module is malformed, please report it";
    console.warn(
      `wasm-vmx: generated code cannot be compiled here, the interpreter goes on alone, more slowly (${error})${fault}`,
    );
    return 0;
  }
}

/** Lets the warning come again. For tests. */
export function forgetWarning(): void {
  warned = false;
}
