/** errno numbers of Linux. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  ENXIO: 6,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EINVAL: 22,
  ENOTTY: 25,
} as const;

/** A call that the kernel would answer with -1 and errno. */
export class KvmError extends Error {
  override name = "KvmError";
  readonly errno: number;
  constructor(
    readonly call: string,
    readonly code: keyof typeof Errno,
    readonly why: string,
  ) {
    super(`${call}: ${code}: ${why}`);
    this.errno = Errno[code];
  }
}
