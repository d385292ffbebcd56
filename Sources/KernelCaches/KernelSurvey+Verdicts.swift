package import GPUCompat

extension KernelSurvey {
    /// Of each entry, in their order.
    ///
    /// - Parameter descriptions: of each entry; nil for what is not known yet, which is `unknown`.
    package func verdicts(_ descriptions: [KernelDescription?], on gpus: [GPU]) -> [Verdict] {
        precondition(descriptions.count == entries.count, "there is a description, or nil, for each entry")
        // Thousands of kernels are built for a handful of targets.
        var known: [Needs: Verdict] = [:]
        var verdicts = descriptions.indices.map { position -> Verdict in
            // Field by field: a copy of the whole takes longer than the rest.
            guard let targets = descriptions[position]?.targets else {
                return .unknown("its metadata was not read yet")
            }
            if targets.isEmpty { return descriptions[position]?.problem.map(Verdict.unknown) ?? .noTarget }
            let needs = Needs(targets: targets, narrowest: descriptions[position]?.narrowestTarget)
            if let verdict = known[needs] { return verdict }
            let verdict = needs.verdict(on: gpus)
            known[needs] = verdict
            return verdict
        }
        // Parts come after what they are in.
        for (position, entry) in entries.enumerated().reversed() {
            if entry.kind == .vllm { verdicts[position] = .best(of: entry.parts.map { verdicts[$0] }) }
            if entry.isOpaque, verdicts[position].outcome != .runs {
                verdicts[position] = .unknown("it holds artefacts that do not say which GPU they were built for")
            }
        }
        return verdicts
    }
}

/// All of a description that a verdict follows from.
private struct Needs: Hashable {
    var targets: [KernelTarget]
    var narrowest: KernelTarget?

    func verdict(on gpus: [GPU]) -> Verdict {
        let best = Verdict.best(of: targets.map { $0.verdict(on: gpus) })
        // Foreign to the most that a header can mean is foreign; what runs must run as the least, too.
        guard best.outcome == .runs, let narrowest, narrowest.verdict(on: gpus).outcome != .runs else { return best }
        return .unknown("its header does not say whether it was built for \(narrowest.architecture) alone")
    }
}

extension Verdict {
    fileprivate static func unknown(_ reason: String) -> Verdict {
        Verdict(outcome: .unknown, reason: reason, rule: noTarget.rule)
    }

    /// Of what is of use if one of several is: foreign only if all of them are, and there are some.
    fileprivate static func best(of verdicts: [Verdict]) -> Verdict {
        let order = [Outcome.runs, .unknown, .foreign]
        guard var best = order.lazy.compactMap({ outcome in verdicts.first { $0.outcome == outcome } }).first else {
            return .noTarget
        }
        if best.outcome == .foreign {
            var reasons: [String] = []
            for verdict in verdicts where !reasons.contains(verdict.reason) { reasons.append(verdict.reason) }
            best.reason = reasons.joined(separator: "; ")
        }
        return best
    }
}
