import Catalog
import ControlAPI
import MCFSCore
import Testing

@testable import Daemon

@Suite struct KernelActivityTests {
    private func view(_ activity: KernelActivity) -> MountStatus.View {
        var view = MountStatus.View()
        activity.report(in: &view)
        return view
    }

    @Test("hits go on from what was kept, and what changed is taken once") func hits() throws {
        let kernel = try TreePath("kernel")
        let activity = KernelActivity(["kernel": .init(hits: 5, last: 1), "other": .init(hits: 1, last: 1)])
        activity.hit(kernel)
        activity.hit(kernel)
        #expect(activity.hits(of: kernel) == 7 && view(activity).kernelHits == 2)
        #expect(activity.takeUnsaved().mapValues(\.hits) == ["kernel": 7])
        #expect(activity.takeUnsaved().isEmpty)
    }

    @Test("an entry that is empty counts once as missed, not once more for the files that it lacks") func emptyEntries()
        throws
    {
        let activity = KernelActivity([:])
        let kernel = try TreePath("kernel")
        activity.miss(kernel)
        activity.missPart(of: kernel)
        #expect(view(activity).kernelMisses == 1)
        activity.missPart(of: try TreePath("left-over"))
        #expect(view(activity).kernelMisses == 2)
        #expect(view(activity).missed.map(\.path) == ["left-over", "kernel"])
        #expect(activity.lastMiss(of: kernel) != nil)
    }

    @Test("what is remembered of names that are not there is bounded") func bounds() throws {
        let activity = KernelActivity([:])
        for number in 0..<5000 { activity.miss(try TreePath("\(number)")) }
        let view = view(activity)
        #expect(view.kernelMisses == 5000 && view.missed.count == 20 && view.missed.first?.path == "4999")
        #expect(activity.lastMiss(of: try TreePath("0")) == nil)
    }
}
