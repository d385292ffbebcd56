internal import ChunkStore
internal import ControlAPI
internal import MCFSCore
internal import Transport

/// `/metrics` in Prometheus' text format 0.0.4.
struct Metrics {
    private enum Kind: String { case counter, gauge }

    private var text = ""

    static func render(
        status: Status, statistics: CacheStatistics, treeTraffic: TrafficMeter, uptimeSeconds: Double
    ) -> String {
        var metrics = Metrics()
        metrics.add(
            MetricNames.buildInfo, .gauge, "The version that runs.", [([("version", status.version)], 1)])
        metrics.add(MetricNames.uptime, .gauge, "Seconds since the daemon started.", uptimeSeconds)
        metrics.addCache(status.cache, statistics)
        metrics.addOrigins(statistics, treeTraffic)
        metrics.addMounts(status)
        return metrics.text
    }

    private mutating func addCache(_ cache: CacheStatus, _ statistics: CacheStatistics) {
        add(MetricNames.cacheUsed, .gauge, "Bytes that the cache holds.", Self.known(cache.bytesUsed))
        add(MetricNames.cacheMax, .gauge, "Bytes that the cache may hold.", Double(cache.bytesMax))
        add(MetricNames.cachePinned, .gauge, "Bytes that may not be evicted.", Self.known(cache.bytesPinned))
        add(MetricNames.cacheHits, .counter, "Reads whose bytes were local.", Double(statistics.hits))
        add(MetricNames.cacheMisses, .counter, "Reads that waited for an origin.", Double(statistics.misses))
        add(MetricNames.cacheReadErrors, .counter, "Reads that failed.", Double(statistics.errors))
        add(MetricNames.corruptions, .counter, "Contents whose digest was wrong.", Double(statistics.corruptions))
        add(
            MetricNames.unkept, .counter, "Chunks served from memory because nothing more could be kept.",
            Double(statistics.unkept))
    }

    private mutating func addOrigins(_ statistics: CacheStatistics, _ tree: TrafficMeter) {
        func byKind(_ content: UInt64, _ tree: UInt64) -> [([(String, String)], Double)] {
            [([("kind", "content")], Double(content)), ([("kind", "tree")], Double(tree))]
        }
        add(
            MetricNames.originRequests, .counter, "Requests made to origins, for content and for trees.",
            byKind(statistics.originRequests, tree.requests))
        add(
            MetricNames.originReceived, .counter, "Bytes that origins sent, of content and for trees.",
            byKind(statistics.originBytes, tree.bytes))
        add(
            MetricNames.originErrors, .counter, "Requests to origins that failed for good.",
            Double(statistics.originErrors))
    }

    private mutating func addMounts(_ status: Status) {
        add(
            MetricNames.jobs, .gauge, "Prefetches, verifications and other long work under way.",
            Double(status.jobs.count))
        // A mountpoint is the name of one mount: of others there is only the number.
        let mounts = status.mounts.filter { $0.state != .detached && $0.state != .dead }
        add(MetricNames.mounts, .gauge, "Mounts of this daemon.", Double(mounts.count))
        add(
            MetricNames.mountsDetached, .gauge, "Mounts that have left their mountpoint and are held elsewhere.",
            Double(status.mounts.filter { $0.state == .detached }.count))
        add(
            MetricNames.mountsDead, .gauge, "Mounts that were there when a daemon ended and are not served.",
            Double(status.mounts.filter { $0.state == .dead }.count))
        func perMount(_ value: (MountStatus) -> UInt64) -> [([(String, String)], Double)] {
            mounts.map { ([("mountpoint", $0.mountpoint)], Double(value($0))) }
        }
        func sum(_ value: @escaping (MountStatus.Reference) -> UInt64) -> (MountStatus) -> UInt64 {
            { $0.references.clampedSum(value) }
        }
        // Nothing is said of what is not counted yet.
        let counted = mounts.filter { $0.references.allSatisfy { $0.bytesLocal != nil } }
        add(
            MetricNames.mountReady, .gauge, "1 where the origins answer, 0 where the mount is degraded or offline.",
            perMount { $0.state == .ready ? 1 : 0 })
        add(MetricNames.mountTotal, .gauge, "Bytes of all files of a mount.", perMount(sum(\.bytesTotal)))
        add(
            MetricNames.mountLocal, .gauge, "Bytes of a mount that are local.",
            counted.map { ([("mountpoint", $0.mountpoint)], Double(sum { $0.bytesLocal ?? 0 }($0))) })
        add(
            MetricNames.mountKernels, .gauge, "Compiled kernels in a mount's tree.",
            perMount { UInt64($0.view.kernels) })
        add(
            MetricNames.mountHiddenKernels, .gauge, "Entries that a mount hides because this host cannot run them.",
            perMount { UInt64($0.view.hiddenEntries) })
        add(
            MetricNames.mountKernelHits, .counter, "Kernels that engines opened in a mount.",
            perMount(\.view.kernelHits))
        add(
            MetricNames.mountKernelMisses, .counter, "Names of kernels that were looked up in a mount in vain.",
            perMount(\.view.kernelMisses))
        add(MetricNames.mountReads, .counter, "Reads that a mount got.", perMount(\.reads.count))
        add(MetricNames.mountReadBytes, .counter, "Bytes that a mount's readers got.", perMount(\.reads.bytes))
        add(MetricNames.mountReadErrors, .counter, "Reads of a mount that failed.", perMount(\.reads.errors))
        add(
            MetricNames.mountOriginRetries, .counter, "Requests of a mount to its origins that were repeated.",
            perMount(\.origin.retries))
        add(
            MetricNames.mountOriginErrors, .counter, "Requests of a mount to its origins that failed.",
            perMount(\.origin.errors))
    }

    /// No sample of what is not counted yet.
    private static func known(_ value: UInt64?) -> [([(String, String)], Double)] {
        value.map { [([], Double($0))] } ?? []
    }

    private mutating func add(_ name: String, _ kind: Kind, _ help: String, _ value: Double) {
        add(name, kind, help, [([], value)])
    }

    private mutating func add(_ name: String, _ kind: Kind, _ help: String, _ samples: [([(String, String)], Double)]) {
        if samples.isEmpty { return }
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
        for (labels, value) in samples {
            let list = labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",")
            text += name + (list.isEmpty ? "" : "{\(list)}") + " \(Self.number(value))\n"
        }
    }

    private static func number(_ value: Double) -> String {
        value == value.rounded() && value.magnitude < 9e15 ? "\(Int64(value))" : "\(value)"
    }

    static func escaped(_ value: String) -> String {
        var result = ""
        for character in value.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
