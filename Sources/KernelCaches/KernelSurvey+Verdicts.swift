package import GPUCompat

extension KernelSurvey {
    /// Of each entry, in their order.
    ///
    /// - Parameter descriptions: of each entry; nil for what is not known yet, which is `unknown`.
    package func verdicts(_ descriptions: [KernelDescription?], on gpus: [GPU]) -> [Verdict] {
        precondition(descriptions.count == entries.count, "there is a description, or nil, for each entry")
        // Thousands of kernels are built for a handful of targets.
        var known: [KernelTarget: Verdict] = [:]
        func verdict(_ target: KernelTarget) -> Verdict {
            if let verdict = known[target] { return verdict }
            let verdict = target.verdict(on: gpus)
            known[target] = verdict
            return verdict
        }

        var verdicts = zip(entries, descriptions).map { entry, description -> Verdict in
            guard let description else { return .unknown("its metadata was not read yet") }
            guard !description.targets.isEmpty else { return description.problem.map(Verdict.unknown) ?? .noTarget }
            let best = Verdict.best(of: description.targets.map(verdict))
            // Foreign to the most that a header can mean is foreign; what runs must run as the least, too.
            guard best.outcome == .runs, let narrowest = description.narrowestTarget,
                verdict(narrowest).outcome != .runs
            else { return best }
            return .unknown("its header does not say whether it was built for \(narrowest.architecture) alone")
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
