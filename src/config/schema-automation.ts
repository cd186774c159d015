import { z } from "zod";
import { byteSize, duration, ownName } from "./values.ts";

export const automation = z
  .strictObject({
    playbooks: z.string().min(1).optional().describe("Directory of playbooks. Nothing outside of it is run."),
    by_topic: z
      .boolean()
      .default(false)
      .describe("Run `<topic>.yml` of that directory for every event that has one, as loopabull did."),
    layout: z
      .enum(["name", "directories"])
      .default("name")
      .describe("`org.example.thing.yml`, or `org/example/thing.yml`."),
    inventory: z.string().min(1).optional().describe("Inventory file or directory."),
    vault_password_file: z.string().min(1).optional().describe("Opens what ansible-vault has encrypted."),
    require_user: z.boolean().default(false).describe("Refuse playbooks whose rule names no automation user."),
    limits: z
      .strictObject({
        memory: byteSize.optional().describe("Address space of each process: `2 GiB`."),
        cpu: duration.optional().describe("Processor time of each process: `10m`."),
        file_size: byteSize.optional().describe("Of the largest file: `10 GiB`."),
        open_files: z.int().min(16).max(1_000_000).optional(),
        nice: z.int().min(0).max(19).default(5).describe("Behind the transfers of the same machine."),
      })
      .prefault({})
      .describe("What a playbook may take. One that takes more is ended, and not tried again."),
    users: z
      .record(
        ownName,
        z.strictObject({
          purpose: z.string().min(1).describe("Why it exists: shown in audits."),
          account: z
            .string()
            .regex(/^[a-z_][a-z0-9_-]{0,31}$/, "is not the name of an account")
            .describe("Remote account the playbook logs in as."),
          key_file: z.string().min(1).optional().describe("SSH private key."),
          hosts: z
            .array(z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$/, "is not the name of a host or a group"))
            .min(1)
            .describe("Hosts or groups of the inventory where it may act; Ansible is limited to them."),
          playbooks: z
            .array(z.string().min(1).max(300))
            .min(1)
            .describe("What it may run, below `automation.playbooks`; `*` is anything but a slash."),
          commands: z
            .array(z.string().min(1).max(500))
            .default([])
            .describe("What its sudo rule on the hosts allows: for requests and audits."),
          service_account: z
            .string()
            .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "is not the name of a service account")
            .optional()
            .describe("In Kubernetes: what its playbooks' jobs act with. Refused where there is no cluster."),
          become: z.boolean().default(false).describe("May it become root by sudo, for those commands."),
        }),
      )
      .default({})
      .describe("Accounts that playbooks act as. A rule names one; what it may not do is refused before it starts."),
  })
  .prefault({})
  .describe("What events run.");
