import MCFSCore
import Testing

@testable import mcfs

@Suite struct MountHelperTests {
    @Test("a remount asks the daemon, and what mount(8) takes from the table of mounts is passed over")
    func remount() throws {
        let options = "rw,nosuid,nodev,relatime,user_id=0,group_id=0,allow_other,remount,ro,noexec,cache_dir=/c"
        let helper = try MountHelper(["hf://a/b", "/m", "-o", options])
        #expect(
            helper.arguments == [
                "mount", "--remount", "--cache-dir", "/c", "--kernel-option", "noexec", "--read-only", "--", "/m",
            ])
        let writable = try MountHelper(["hf://a/b", "/m", "-o", "ro,remount,rw"])
        #expect(
            writable.arguments == [
                "mount", "--remount", "--kernel-option", "dev", "--kernel-option", "suid", "--", "/m",
            ])
    }

    @Test("read-only goes with an upper") func readOnlyUpper() throws {
        let helper = try MountHelper(["over", "/m", "-o", "ro,lowerdir=/a:/b,upperdir=/u,nodiratime"])
        #expect(
            helper.arguments == [
                "mount", "--quiet", "--upper", "/u", "--kernel-option", "nodiratime", "--kernel-option", "dev",
                "--kernel-option", "suid", "--read-only", "--fsname", "over",
                "--", "/b", "/a", "/m",
            ])
    }

    @Test("set-id bits and devices act where root does not say otherwise") func acting() throws {
        let helper = try MountHelper(["r", "/m", "-o", "nosuid"])
        #expect(helper.arguments == ["mount", "--quiet", "--kernel-option", "dev", "--", "r", "/m"])
        let ofUser = try MountHelper(["r", "/m"], isRoot: false)
        #expect(ofUser.arguments == ["mount", "--quiet", "--", "r", "/m"])
    }

    @Test("options without an effect are refused", arguments: ["user_id=0", "bogus"])
    func refused(option: String) {
        let error = #expect(throws: MCFSError.self) { try MountHelper(["r", "/m", "-o", option]) }
        #expect(error?.code == .usage)
    }
}
