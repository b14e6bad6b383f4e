/** The decoder and encoder of pictures: `#sharp`. */
export type { Metadata, Sharp } from "sharp";
export { default } from "sharp";
