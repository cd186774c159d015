/**
 * List prices in US dollars for us-east-1 and East US: data, for estimates. The requests of EBS direct are those of the
 * example in AWS's user guide; storage and transfer are the long-standing list prices and were not looked up again on
 * that day. Other regions cost up to twice as much, contracts less. 1 GB is 10^9 bytes.
 */
export const PRICES = {
  asOf: "2026-11-26",
  aws: {
    source:
      "https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-pricing.html, https://aws.amazon.com/ebs/pricing/, https://aws.amazon.com/ec2/pricing/on-demand/#Data_Transfer",
    /** PutSnapshotBlock and GetSnapshotBlock, per 1000 blocks of 512 KiB. */
    putPerThousand: 0.006,
    getPerThousand: 0.003,
    storagePerGbMonth: 0.05,
    copyPerGb: 0.02,
  },
  azure: {
    source:
      "https://azure.microsoft.com/pricing/details/managed-disks/ and https://azure.microsoft.com/pricing/details/bandwidth/",
    /** Each replica is a snapshot. */
    storagePerGbMonth: 0.05,
    copyPerGb: 0.02,
  },
} as const;
