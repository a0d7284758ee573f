/** A device on I/O ports. `port` is absolute; size is 1, 2 or 4. */
export interface PortDevice {
  readonly first: number;
  readonly last: number;
  read?(port: number, size: number): number;
  write?(port: number, value: number, size: number): void;
}

/** Devices by port. The same bus serves a bare machine's port hooks and a hypervisor's I/O exits. */
export class PortBus {
  readonly #devices: PortDevice[] = [];

  add(device: PortDevice): this {
    const clash = this.#devices.find((other) => device.first <= other.last && other.first <= device.last);
    if (clash) {
      throw new RangeError(
        `ports 0x${device.first.toString(16)}-0x${device.last.toString(16)} overlap a device at 0x${clash.first.toString(16)}`,
      );
    }
    this.#devices.push(device);
    return this;
  }

  /** IN; all ones where no device answers. */
  read(port: number, size: number): number {
    const device = this.#find(port);
    const ones = 2 ** (8 * size) - 1;
    return device?.read ? (device.read(port, size) & ones) >>> 0 : ones;
  }

  /** OUT; false where no device takes it. */
  write(port: number, value: number, size: number): boolean {
    const device = this.#find(port);
    device?.write?.(port, value, size);
    return device?.write !== undefined;
  }

  #find(port: number): PortDevice | undefined {
    return this.#devices.find((device) => port >= device.first && port <= device.last);
  }
}
