/** Bytes of what a bundler keeps of each entry. */
export function sizes(): Promise<{ name: string; minified: number; gzip: number }[]>;
