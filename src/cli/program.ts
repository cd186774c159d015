/**
 * The command line as a tree: names, options and help texts. What a command does is in commands/, loaded when it is
 * called, so that `--help` stays light. Exit codes: 0 done, 1 failed, 2 usage, 77 some targets failed and the rest is
 * done.
 */
import { Command, CommanderError, Option } from "commander";
import { EXIT } from "./output.ts";
import type { Session } from "./session.ts";

export interface GlobalOptions {
  readonly config?: string;
  readonly output?: "json" | "text";
  readonly dataDir?: string;
  readonly verbose?: boolean;
}

/** Makes the session for a call; main.ts knows how. */
export type OpenSession = (options: GlobalOptions) => Session;

/** Runs one command line and returns its exit code. Never throws for what a command does. */
export async function runProgram(args: readonly string[], version: string, open: OpenSession): Promise<number> {
  let code: number = EXIT.done;
  const program = buildProgram(version, async (command, work) => {
    const session = open(command.optsWithGlobals<GlobalOptions>());
    try {
      code = await work(session);
    } catch (error) {
      session.output.error(error);
      code = EXIT.failed;
    } finally {
      await session.close();
    }
  });
  try {
    await program.parseAsync([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  }
  return code;
}

type Run = (command: Command, work: (session: Session) => Promise<number>) => Promise<void>;

function buildProgram(version: string, run: Run): Command {
  const program = new Command("slipway")
    .description("Takes operating-system images from a finished build to every cloud.")
    .version(version)
    .option("--config <file>", "configuration (default: slipway.yaml, or SLIPWAY_CONFIG)")
    .option("--data-dir <directory>", "where Slipway keeps what it writes (or SLIPWAY_DATA_DIR)")
    .addOption(new Option("--output <format>", "json for programs").choices(["json", "text"]))
    .option("--verbose", "tell on stderr what goes on inside")
    .showHelpAfterError('"slipway --help" shows what there is.')
    .showSuggestionAfterError()
    .exitOverride()
    .addHelpText(
      "after",
      `
Begin here:
  slipway demo                      release a sample compose to simulated clouds
  slipway plan COMPOSE              what a release would do; changes nothing
  slipway release COMPOSE           do it, and follow it
  slipway runs why --last           why is it not out yet?

COMPOSE is the URL or the path of a compose/ directory.`,
    );

  program
    .command("plan")
    .argument("<compose>", "URL or path of the compose/ directory")
    .description("show what a release would do, image by image and region by region")
    .option("--system <name>", "only this system")
    .option("--offline", "ask no cloud what it already has")
    .option("--detailed-exitcode", "exit 10 if there is something to do")
    .option("--out <file>", 'write the plan down for "slipway apply"')
    .action((compose, options, command) =>
      run(command, async (session) => (await import("./commands/plan.ts")).plan(session, compose, options)),
    );

  program
    .command("apply")
    .argument("<plan>", "a file that plan --out wrote")
    .description("do what a plan says, if the world is still what it was made for")
    .option("--no-wait", "start it and return")
    .action((path, options, command) =>
      run(command, async (session) => (await import("./commands/plan.ts")).apply(session, path, options)),
    );

  program
    .command("release")
    .argument("<compose>", "URL or path of the compose/ directory")
    .description("release a compose to every target its systems name; safe to repeat")
    .option("--system <name>", "only this system")
    .addOption(new Option("--as <state>", "stop before the offer; promote it later").choices(["candidate"]))
    .option("--force", "look again although it was released")
    .option("--no-wait", "start it and return")
    .action((compose, options, command) =>
      run(command, async (session) => (await import("./commands/release.ts")).release(session, compose, options)),
    );

  addRuns(program, run);
  addImages(program, run);

  program
    .command("lifecycle")
    .description("look after what was released")
    .command("drift")
    .argument("[what...]", "compose, image or a cloud's id (default: everything)")
    .description("compare the catalog with the clouds")
    .option("--system <name>", "only of this system")
    .option("--target <name>", "only in this target")
    .option("--repair", "repair what can be: missing regions, what should be public")
    .option("--detailed-exitcode", "exit 10 if something differs")
    .action((what, options, command) =>
      run(command, async (session) => (await import("./commands/lifecycle.ts")).drift(session, what, options)),
    );

  addEvents(program, run);
  addAlarms(program, run);

  program
    .command("shadow")
    .description("beside another service: what it publishes against what we would")
    .command("report")
    .description("counts, then every difference in words")
    .option("--compose <id>", "only of this compose")
    .option("--since <when>", "only what finished or came since: 12h, 7d or a time (default: everything)")
    .option("--detailed-exitcode", "exit 10 if anything differs")
    .action((options, command) =>
      run(command, async (session) => (await import("./commands/shadow.ts")).report(session, options)),
    );

  program
    .command("serve")
    .description("take events in, work on runs and send messages until stopped, with the console")
    .option("--listen <host:port>", "address of the console (default: what the configuration says)")
    .option("--queues <names>", "work on these queues only, separated by commas")
    .action((options, command) =>
      run(command, async (session) => (await import("./commands/serve.ts")).serve(session, options)),
    );

  program
    .command("worker")
    .description("work on runs until stopped, and nothing else; on as many machines as are wanted")
    .option("--queues <names>", "work on these queues only, separated by commas: aws,playbooks")
    .action((options, command) =>
      run(command, async (session) => (await import("./commands/serve.ts")).work(session, options)),
    );

  program
    .command("pause")
    .argument("[rule]", "default: every rule")
    .description("start nothing that events ask for; it waits until slipway resume")
    .requiredOption("--reason <text>", "shown to whoever asks why nothing moves")
    .option("--drop", "skip what comes meanwhile instead of holding it")
    .action((rule, options, command) =>
      run(command, async (session) => (await import("./commands/rules.ts")).pause(session, rule, options)),
    );
  program
    .command("resume")
    .argument("[rule]", "default: what stops every rule")
    .description("go on with what events ask for")
    .action((rule, _, command) =>
      run(command, async (session) => (await import("./commands/rules.ts")).resume(session, rule)),
    );

  program
    .command("drain")
    .requiredOption("--reason <text>", "shown to whoever asks why nothing moves")
    .description("start nothing that events ask for, and wait until what runs has ended: before an upgrade")
    .action((options, command) =>
      run(command, async (session) => (await import("./commands/rules.ts")).drain(session, options)),
    );

  const rules = program.command("rules").description("what is done about which events");
  rules
    .command("list")
    .description("the rules, and what became of the events they meant lately")
    .action((_, command) => run(command, async (session) => (await import("./commands/rules.ts")).listRules(session)));
  rules
    .command("test")
    .argument("<event>", "a file with {topic, body, headers?}; - for standard input")
    .description("say which rules would act on an event, and why the others would not; does nothing")
    .action((file, _, command) =>
      run(command, async (session) => (await import("./commands/rules.ts")).testRules(session, file)),
    );

  const automation = program.command("automation").description("accounts that playbooks act as");
  automation
    .command("request")
    .argument("<user>", "its name in automation.users")
    .description("write the form that asks for an automation user, or for more for one: for review, changes nothing")
    .requiredOption("--purpose <text>", "why it is needed")
    .requiredOption("--hosts <names...>", "where it acts")
    .requiredOption("--playbooks <paths...>", "what it runs, below the directory of playbooks")
    .option("--commands <paths...>", "what it runs with sudo, absolute and with arguments", [])
    .option("--account <name>", "account on the hosts (default: slipway_<user>)")
    .option("--out <file>", "write it there instead of printing it")
    .action((user, options, command) =>
      run(command, async (session) => (await import("./commands/automation.ts")).request(session, user, options)),
    );
  automation
    .command("audit")
    .description("every playbook that was run, in whose name, about what, with which result")
    .option("--user <name>", "only this automation user")
    .option("--since <when>", "30m, 2h, 3d or a time (default: all that is remembered)")
    .option("--limit <count>", "at most so many", "100")
    .action((options, command) =>
      run(command, async (session) => (await import("./commands/automation.ts")).audit(session, options)),
    );

  program
    .command("demo")
    .description("release a sample compose to simulated clouds and leave the console open")
    .option("--once", "exit when it is released")
    .option("--listen <host:port>", "address of the console", "127.0.0.1:8080")
    .action((options, command) =>
      run(command, async (session) => (await import("./commands/demo.ts")).demo(session, options)),
    );

  program
    .command("rehearse")
    .description("start simulated clouds and say how to point any client at them; with --compose, release to them")
    .option("--compose <compose>", "release this compose to the simulated clouds and exit")
    .option("--scenario <name>", "faults and limits: one that comes along, or a file of your own")
    .option("--list-scenarios", "name those that come along")
    .option("--in-front-of <cloud=url...>", "let the scenario happen to a server that is not simulated here")
    .option("--upstream-ca <file>", "PEM to check that server's certificate with")
    .option("--system <name>", "only this system")
    .action((options, command) =>
      run(command, async (session) => (await import("./commands/rehearse.ts")).rehearse(session, options)),
    );

  const config = program.command("config").description("the configuration");
  config
    .command("check")
    .description("read the configuration and say what is wrong with it")
    .action((_, command) =>
      run(command, async (session) => (await import("./commands/config.ts")).checkConfig(session)),
    );
  config
    .command("schema")
    .description("print the JSON Schema of slipway.yaml, for editors")
    .action((_, command) =>
      run(command, async (session) => (await import("./commands/config.ts")).printSchema(session)),
    );

  program
    .command("doctor")
    .description("look at everything a release needs: runtime, database, credentials, permissions, registries")
    .action((_, command) => run(command, async (session) => (await import("./commands/doctor.ts")).doctor(session)));

  return program;
}

function addEvents(program: Command, run: Run): void {
  const events = program.command("events").description("what has arrived, and what was told");
  const commands = () => import("./commands/events.ts");
  events
    .command("list")
    .description("events that arrived, newest first; with --sent the messages that announce what was released")
    .option("--sent", "messages of ours instead, and whether the broker has them")
    .option("--quarantined", "what nobody could read, and why")
    .option("--topic <part>", "only topics that contain this")
    .option("--run <id>", "only messages that this run wrote")
    .option("--since <when>", "only those since: 2h, 3d or a time")
    .option("--limit <count>", "at most so many", "50")
    .action((options, command) => run(command, async (session) => (await commands()).listEvents(session, options)));
  events
    .command("show")
    .argument("<id>")
    .description("one event: its body, and what was done about it")
    .action((id, _, command) => run(command, async (session) => (await commands()).showEvent(session, id)));
  events
    .command("publish")
    .description("put an event into the inbox, as if it had arrived")
    .requiredOption("--file <file>", "{topic, body, headers?, id?} as JSON; - for standard input")
    .option("--wait", "act on it, and wait for the runs it starts")
    .action((options, command) => run(command, async (session) => (await commands()).publishEvent(session, options)));
  events
    .command("replay")
    .argument("[id]", "an event's id")
    .description("do again what an event does: its rules start runs as if it had just arrived")
    .option("--since <when>", "every event since: 2h, 3d or a time")
    .option("--rule <name>", "only this rule")
    .option("--dry-run", "say what would run, and why not")
    .action((id, options, command) =>
      run(command, async (session) => (await commands()).replayEvents(session, id, options)),
    );
}

function addAlarms(program: Command, run: Run): void {
  const alarms = program.command("alarms").description("what is wrong now, and who was told");
  const commands = () => import("./commands/alarms.ts");
  alarms
    .command("list")
    .description("what is wrong now, since when, who was told, and what to do")
    .option("--ended", "what is over too, newest first")
    .option("--limit <count>", "at most so many", "50")
    .action((options, command) => run(command, async (session) => (await commands()).listAlarms(session, options)));
  alarms
    .command("snooze")
    .argument("<key>", "as the list has it: queue-age:events")
    .description("say nothing about an alarm for a while; it is told again at the end if it is still true")
    .requiredOption("--for <time>", "30m, 2h or 3d; 0m ends the silence")
    .requiredOption("--reason <text>", "shown to whoever asks why nobody was told")
    .action((key, options, command) =>
      run(command, async (session) => (await commands()).snoozeAlarm(session, key, options)),
    );
  alarms
    .command("test")
    .argument("<channel>", "a name in notifications.channels")
    .description("send a test to a channel, and say whether it arrived there")
    .action((channel, _, command) => run(command, async (session) => (await commands()).testChannel(session, channel)));
}

function addRuns(program: Command, run: Run): void {
  const runs = program.command("runs").description("what is being done, and what was");
  const commands = () => import("./commands/runs.ts");
  runs
    .command("list")
    .description("runs, newest first")
    .option("--limit <count>", "at most so many", "20")
    .option("--compose <id>", "only of this compose")
    .option("--all", "the groups of each release too")
    .addOption(
      new Option("--state <state>", "only these").choices(["waiting", "running", "done", "failed", "cancelled"]),
    )
    .action((options, command) => run(command, async (session) => (await commands()).listRuns(session, options)));
  runs
    .command("show")
    .argument("[run]")
    .description("one run: its steps, attempts and outcome")
    .option("--last", "the newest one")
    .action((id, options, command) =>
      run(command, async (session) => (await commands()).showRun(session, id, options)),
    );
  runs
    .command("logs")
    .argument("[run]")
    .description("the log of a run and of all it started")
    .option("--last", "of the newest one")
    .option("-f, --follow", "go on until it ends")
    .option("--debug", "debug lines too")
    .action((id, options, command) =>
      run(command, async (session) => (await commands()).showLogs(session, id, options)),
    );
  runs
    .command("watch")
    .argument("[run]")
    .description("follow a run until it ends; exits as the release would")
    .option("--last", "the newest one")
    .action((id, options, command) =>
      run(command, async (session) => (await commands()).watchRun(session, id, options)),
    );
  runs
    .command("why")
    .argument("[run]")
    .description("say what a run waits for, or why it failed")
    .option("--last", "the newest one")
    .action((id, options, command) => run(command, async (session) => (await commands()).whyRun(session, id, options)));
  runs
    .command("retry")
    .argument("[run]")
    .description("do what a release left undone")
    .option("--last", "of the newest one")
    .option("--no-wait", "start it and return")
    .action((id, options, command) =>
      run(command, async (session) => (await commands()).retryRun(session, id, options)),
    );
  runs
    .command("cancel")
    .argument("<run>")
    .description("stop a run and all it started; nothing it made is removed")
    .action((id, _, command) => run(command, async (session) => (await commands()).cancelRun(session, id)));
  runs
    .command("resume")
    .argument("<run>")
    .description("go on with a cancelled run after its last finished step")
    .action((id, _, command) => run(command, async (session) => (await commands()).resumeRun(session, id)));
}

function addImages(program: Command, run: Run): void {
  const images = program.command("images").description("what was released, and where it is");
  const commands = () => import("./commands/images.ts");
  images
    .command("list")
    .description("images, newest compose first")
    .option("--compose <id>", "only of this compose")
    .option("--system <name>", "only of this system")
    .option("--search <part>", "only where name, id or compose contain this")
    .option("--limit <count>", "at most so many", "50")
    .action((options, command) => run(command, async (session) => (await commands()).listReleased(session, options)));
  images
    .command("show")
    .argument("<name>", "an image's name, a cloud's id, a repository or a digest")
    .description("everything about one image")
    .action((name, _, command) => run(command, async (session) => (await commands()).showImage(session, name)));
  images
    .command("why")
    .argument("<name>", "an image's name, or a cloud's id")
    .description("say what an image waits for: a freeze, a promotion, a region, a step")
    .action((name, _, command) =>
      run(command, async (session) => (await import("./commands/why.ts")).whyImage(session, name)),
    );
  images
    .command("amis")
    .description("region → AMI of the newest offered compose")
    .option("--compose <id>", "of this compose")
    .addOption(new Option("--format <name>", "the YAML that the website's get-amis writes").choices(["get-amis"]))
    .action((options, command) => run(command, async (session) => (await commands()).listAmis(session, options)));
  const offers = () => import("./commands/offers.ts");
  images
    .command("promote")
    .argument("<what...>", "compose, image, a cloud's id, or repository:tag")
    .description("offer candidates: everywhere in one batch, floating tags last; taken back if part of it fails")
    .option("--system <name>", "only of this system")
    .option("--target <name>", "only in this target")
    .option("--allow-missing", "offer what there is although a region lacks it")
    .option("--despite-freeze", "in a freeze window too")
    .option("--dry-run", "say what would be offered")
    .action((what, options, command) =>
      run(command, async (session) => (await offers()).promote(session, what, options)),
    );
  images
    .command("rollback")
    .argument("<what...>", "compose, image, a cloud's id, or repository:tag")
    .description("take back what was offered, in every cloud; floating tags go back to where they were")
    .option("--system <name>", "only of this system")
    .option("--target <name>", "only in this target")
    .option("--deprecate", "leave images usable and mark them as outdated, instead of making them private")
    .option("--dry-run", "say what would be taken back")
    .action((what, options, command) =>
      run(command, async (session) => (await offers()).rollback(session, what, options)),
    );
  const attestations = () => import("./commands/attestations.ts");
  images
    .command("attest")
    .argument("<what...>", "compose, image, a cloud's id, or repository:tag")
    .description("sign what the catalog says of them now: artifact, disk and every id in every cloud")
    .option("--system <name>", "only of this system")
    .option("--target <name>", "only what is in this target")
    .option("--export <directory>", "write the signed envelopes there too, and bundles for cosign")
    .action((what, options, command) =>
      run(command, async (session) => (await attestations()).attest(session, what, options)),
    );
  images
    .command("verify")
    .argument("<what...>", "compose, image, a cloud's id, or repository:tag")
    .description("check signatures, ids, states, visibility and, if asked to, bytes; changes nothing")
    .option("--system <name>", "only of this system")
    .option("--target <name>", "only in this target")
    .addOption(
      new Option("--bytes <how-many>", "read disks and layers again, where the cloud lets anybody").choices([
        "sample",
        "full",
      ]),
    )
    .option("--key <file...>", "public keys to trust beside those configured")
    .action((what, options, command) =>
      run(command, async (session) => (await attestations()).verify(session, what, options)),
    );
}
