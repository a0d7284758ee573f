/** A device on I/O ports. Port numbers are absolute; size is 1, 2 or 4 bytes. */
export interface PortDevice {
  /** First and last port of each range. */
  readonly ports: readonly (readonly [first: number, last: number])[];
  /** Widest access the device takes, default 4: a wider one becomes several on consecutive ports, lowest first. */
  readonly width?: 1 | 2 | 4;
  read?(port: number, size: number): number;
  write?(port: number, value: number, size: number): void;
}

interface Entry {
  readonly first: number;
  readonly last: number;
  readonly device: PortDevice;
}

/** Devices by port. The same bus serves a bare machine's port hooks and a hypervisor's I/O exits. */
export class PortBus {
  readonly #entries: Entry[] = [];

  add(device: PortDevice): this {
    for (const [first, last] of device.ports) {
      const clash = this.#entries.find((other) => first <= other.last && other.first <= last);
      if (clash) {
        throw new RangeError(
          `ports 0x${first.toString(16)}-0x${last.toString(16)} overlap a device at 0x${clash.first.toString(16)}`,
        );
      }
    }
    for (const [first, last] of device.ports) this.#entries.push({ first, last, device });
    return this;
  }

  /** Does a device answer at this port? */
  has(port: number): boolean {
    return this.#find(port) !== undefined;
  }

  /** IN; all ones where no device answers. */
  read(port: number, size: number): number {
    const entry = this.#find(port);
    if (entry === undefined ? size > 1 : narrow(entry, port, size)) {
      const half = size >> 1;
      const low = this.read(port, half);
      return (low | (this.read((port + half) & 0xffff, half) << (8 * half))) >>> 0;
    }
    const ones = 2 ** (8 * size) - 1;
    return entry?.device.read ? (entry.device.read(port, size) & ones) >>> 0 : ones;
  }

  /** OUT; false where no device takes it. */
  write(port: number, value: number, size: number): boolean {
    const entry = this.#find(port);
    if (entry === undefined ? size > 1 : narrow(entry, port, size)) {
      const half = size >> 1;
      const low = this.write(port, value & (2 ** (8 * half) - 1), half);
      return this.write((port + half) & 0xffff, value >>> (8 * half), half) || low;
    }
    entry?.device.write?.(port, value, size);
    return entry?.device.write !== undefined;
  }

  #find(port: number): Entry | undefined {
    return this.#entries.find(({ first, last }) => port >= first && port <= last);
  }
}

function narrow({ device, last }: Entry, port: number, size: number): boolean {
  return size > (device.width ?? 4) || (size > 1 && port + size - 1 > last);
}
