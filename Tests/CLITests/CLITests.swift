import ControlAPI
import MCFSCore
import Testing

@testable import mcfs

@Suite struct CLITests {
    @Test("every error has the exit code of the documented table", arguments: MCFSError.Code.allCases)
    func exitCodes(code: MCFSError.Code) {
        let expected: Int32 =
            switch code {
            case .usage: 64
            case .corrupt: 65
            case .notFound: 66
            case .originUnavailable, .changed, .timedOut: 69
            case .cannotCreate, .busy: 73
            case .noSpace, .localIO: 74
            case .unauthorized: 77
            case .configuration: 78
            case .cancelled, .unsupported, .failed: 1
            }
        #expect(code.exitCode == expected)
    }

    @Test("progress shows bytes, rate and time left")
    func progress() {
        let progress = Progress(phase: "fetching", done: 50 << 20, total: 100 << 20)
        #expect(
            ProgressDisplay.text(progress, base: 0, seconds: 5)
                == "fetching  50.0 MiB of 100 MiB  50%  10.0 MiB/s  5s left")
        #expect(
            ProgressDisplay.text(Progress(phase: "resolving", done: 0, total: nil), base: 0, seconds: 1) == "resolving")
        #expect(ProgressDisplay.duration(59.2) == "1m0s")
        #expect(ProgressDisplay.duration(1e9) == "99h59m")
    }
}
