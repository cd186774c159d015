/** The footer of a fixed VHD, for disks made of nothing. */
export { vhdFooter } from "../../../../rehearsal/src/sample/vhd.ts";
