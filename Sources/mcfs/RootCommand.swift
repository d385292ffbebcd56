internal import ArgumentParser
internal import Daemon

struct RootCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mcfs",
        abstract: "Model caches as a file system: there at once, each byte fetched on first read.",
        discussion: """
            References: oci://HOST/REPO:TAG, oci-layout:DIR, s3://BUCKET/PREFIX, hf://ORG/NAME, https://…, or a folder;
            SUBDIR=REFERENCE places one below SUBDIR of the mount.
            """,
        version: mcfsVersion,
        groupedSubcommands: [
            CommandGroup(
                name: "Mounts:",
                subcommands: [
                    MountCommand.self, UmountCommand.self, StatusCommand.self, JobsCommand.self, ListCommand.self,
                    UpperCommand.self,
                ]),
            CommandGroup(
                name: "Kernels:",
                subcommands: [
                    GPUCommand.self, CheckCommand.self, ExplainCommand.self, ViewCommand.self, IndexCommand.self,
                    KernelListCommand.self, PruneCommand.self, WarmCommand.self,
                ]),
            CommandGroup(
                name: "Local bytes:",
                subcommands: [
                    PrefetchCommand.self, PinCommand.self, UnpinCommand.self, EvictCommand.self, CollectCommand.self,
                    VerifyCommand.self,
                ]),
            CommandGroup(name: "Service:", subcommands: [DaemonCommand.self]),
        ])
}
