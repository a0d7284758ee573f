/** esbuild puts the text of the file in. */
declare module "*.asm" {
  const text: string;
  export default text;
}
