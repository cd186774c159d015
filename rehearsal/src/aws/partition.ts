/** AWS is three: accounts, credentials and regions of one know nothing of the others. */
export type Partition = "aws" | "aws-cn" | "aws-us-gov";

/** The partition of a region, as it stands in its ARNs. */
export function partitionOf(region: string): Partition {
  if (region.startsWith("cn-")) return "aws-cn";
  return region.startsWith("us-gov-") ? "aws-us-gov" : "aws";
}
