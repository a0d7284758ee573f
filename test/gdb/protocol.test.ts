// What is not a good packet is refused and changes nothing. GDB manual, "Remote Protocol".
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodePacket, GdbSession, type Incoming, PacketReader } from "../../src/gdb/index.ts";
import { bareTarget } from "./guest.ts";

const latin1 = (bytes: Uint8Array): string => String.fromCharCode(...bytes);
const ascii = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));

// 7c00: mov ax, 1; jmp 7c00h
const GUEST = { name: "", mode: "real", load: 0x7c00, code: [0xb8, 1, 0, 0xeb, 0xfb], commands: [] } as const;

function connect() {
  const { target, machine } = bareTarget(GUEST);
  const raw: string[] = [];
  const replies: string[] = [];
  const reader = new PacketReader(1 << 20);
  const session = new GdbSession(target, (bytes) => {
    raw.push(latin1(bytes));
    for (const event of reader.push(bytes)) if (event.kind === "packet") replies.push(latin1(event.data));
  });
  const ask = async (packet: string): Promise<string | undefined> => {
    const before = replies.length;
    await session.receive(encodePacket(packet));
    return replies.length === before ? undefined : replies.at(-1);
  };
  return { session, machine, raw, replies, ask };
}

const state = ({ machine }: ReturnType<typeof connect>) => ({
  registers: machine.registers.read(),
  count: machine.instructionCount,
  memory: machine.readMemory(0, 4 << 20).reduce((sum, byte) => (sum * 31 + byte) >>> 0, 0),
});

describe("packets", () => {
  const events = (reader: PacketReader, bytes: Uint8Array): Incoming[] => [...reader.push(bytes)];

  it("come out as they went in, in whatever pieces", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), fc.integer({ min: 1, max: 7 }), (all, piece) => {
        const stream = all.flatMap((data) => [...encodePacket(data)]);
        const reader = new PacketReader(1000);
        const got: Uint8Array[] = [];
        for (let at = 0; at < stream.length; at += piece) {
          for (const event of events(reader, Uint8Array.from(stream.slice(at, at + piece)))) {
            if (event.kind === "packet") got.push(event.data);
          }
        }
        expect(got).toEqual(all);
      }),
    );
  });

  it("have the checksum of the manual's example", () => {
    // "Overview" of the protocol: $OK#9a
    expect(latin1(encodePacket("OK"))).toBe("$OK#9a");
  });

  it("are refused with a wrong checksum, too long, or cut off by the next one", () => {
    const reader = new PacketReader(8);
    expect(events(reader, ascii("$g#00"))).toMatchObject([{ kind: "bad" }]);
    expect(events(reader, ascii("$123456789#00$g#67")).map(({ kind }) => kind)).toEqual(["bad", "packet"]);
    expect(events(reader, ascii("$m7c00$g#67")).map(({ kind }) => kind)).toEqual(["bad", "packet"]);
  });
});

describe("a session", () => {
  it("asks for a packet again that came with a wrong checksum, and sends its own again", async () => {
    const connection = connect();
    await connection.session.receive(ascii("$g#00"));
    expect(connection.raw).toEqual(["-"]);
    await connection.session.receive(ascii("$qC#b4"));
    await connection.session.receive(ascii("-"));
    expect(connection.raw.slice(1)).toEqual(["+", "$QC1#c5", "$QC1#c5"]);
  });

  it("acknowledges no more after QStartNoAckMode", async () => {
    const { session, raw } = connect();
    await session.receive(encodePacket("QStartNoAckMode"));
    expect(raw).toEqual(["+", "$OK#9a"]);
    await session.receive(encodePacket("qC"));
    expect(raw.slice(2)).toEqual(["$QC1#c5"]);
  });

  it("answers what it does not know with nothing", async () => {
    const { ask } = connect();
    for (const packet of ["vMustReplyEmpty", "qUnknown", "QUnknown:1", "vFile:open:2f", "Z9,0,1", "!", "i"]) {
      expect(await ask(packet), packet).toBe("");
    }
  });

  it.each([
    ...["m", "m7c00", "mxyz,4", "m7c00,4,4", "m7c00,-1", "m7c00,fffffffff", "M7c00,2:00", "M7c00,1:0", "M7c00,1:zz"],
    ...["M7c00", "X7c00,4:a", "p", "pzz", "pffff", "P0", "P0=", "P0=12", "P0=1234567890", "P0=00000000=00000000"],
    ...["G00", "Gzz", "Z0", "Z0,7c00", "Zx,7c00,1", "Z2,7c00,0", "z0,zz,1", "Hg9", "Hx1", "T9", "Tzz", "qRcmd,abc"],
    ...[
      "vCont;",
      "vCont;x",
      "vCont;c:9",
      "vCont;s:zz",
      "qThreadExtraInfo,9",
      "czz",
      "szz",
      "qXfer:features:read:a.xml:0,9",
    ],
    "qXfer:features:read:target.xml:zz,10",
  ])("refuses %s with an error and changes nothing", async (packet) => {
    const connection = connect();
    const before = state(connection);
    expect(await connection.ask(packet)).toMatch(/^E[0-9a-f]{2}$/);
    expect(state(connection)).toEqual(before);
  });

  it("survives any bytes, and answers the next good packet", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), async (noise) => {
        const { session, replies } = connect();
        const quiet = noise.filter((byte) => byte !== 0x24);
        await session.receive(quiet);
        await session.receive(encodePacket("qC"));
        expect(replies.at(-1)).toBe("QC1");
      }),
      { numRuns: 30 },
    );
  });

  it("survives any packet that does not run the guest", async () => {
    const letters = "gGpPmMXZzHTqQv?!ijk".split("").filter((letter) => letter !== "k");
    const text = fc.string({ unit: fc.constantFrom(..."0123456789abcdef,;:=-xgcRcmdXfer".split("")), maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...letters), text, async (letter, rest) => {
        const connection = connect();
        await connection.ask(letter + rest);
        expect(connection.machine.instructionCount).toBe(0n);
        expect(await connection.ask("qC")).toBe("QC1");
      }),
      { numRuns: 200 },
    );
  });

  it("writes all of a memory packet or nothing", async () => {
    const connection = connect();
    // the last two bytes of 4 MiB of RAM and two beyond
    expect(await connection.ask("M3ffffe,4:11223344")).toBe("E0e");
    expect([...connection.machine.readMemory(0x3ffffe, 2)]).toEqual([0, 0]);
    expect(await connection.ask("M3ffffe,2:1122")).toBe("OK");
    expect(await connection.ask("m3ffffe,4")).toBe("1122");
    expect(await connection.ask("m400000,4")).toBe("E0e");
    expect(await connection.ask("X3ffffe,2:\x7d\x03\x7d\x5d")).toBe("E16");
  });

  it("is interrupted by ^C while the guest runs", async () => {
    const { session, replies, ask } = connect();
    const running = session.receive(encodePacket("vCont;c"));
    await new Promise((resolve) => setTimeout(resolve, 20));
    await session.receive(Uint8Array.of(3));
    await running;
    expect(replies.at(-1)).toBe("T02thread:1;");
    expect(await ask("?")).toBe("T02thread:1;");
  });

  it("removes its points when the connection is lost", async () => {
    const { session, machine, ask } = connect();
    await ask("Z0,7c03,1");
    await ask("Z2,7d00,2");
    expect(machine.breakpoints).toHaveLength(1);
    expect(machine.watchpoints).toHaveLength(1);
    session.close();
    expect(machine.breakpoints).toHaveLength(0);
    expect(machine.watchpoints).toHaveLength(0);
  });

  it("tells of the registers of the code that runs when GDB asks", async () => {
    const { ask } = connect();
    const xml = await ask("qXfer:features:read:target.xml:0,100");
    expect(xml).toContain("<architecture>i8086</architecture>");
    const general = await ask("g");
    // eight registers of 32 bits, eip, eflags, six selectors, then the x87 that is not there
    expect(general!.slice(0, 16 * 8)).toMatch(/^[0-9a-f]+$/);
    expect(general!.slice(8 * 8, 9 * 8)).toBe("007c0000");
    expect(general!.slice(16 * 8)).toMatch(/^x+$/);
  });
});
