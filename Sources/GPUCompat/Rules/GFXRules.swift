extension KernelTarget {
    func gfxMatch(_ target: GFXArchitecture, _ device: GFXArchitecture, _ gpu: GPU) -> Match {
        let byProcessor = target.isGeneric ? genericMatch(target, device, gpu) : exactMatch(target, device)
        guard byProcessor.outcome == .runs else { return byProcessor }
        return featureMatch(.xnack, target.xnack, device.xnack, device, gpu)
            ?? featureMatch(.sramecc, target.sramecc, device.sramecc, device, gpu) ?? byProcessor
    }

    private func exactMatch(_ target: GFXArchitecture, _ device: GFXArchitecture) -> Match {
        let rule: CompatibilityRule = form == .tritonEntry ? .tritonExact : .gfxExact
        return target.processor == device.processor ? .runs(rule) : .foreign(rule)
    }

    /// The table of members, and the version of the code object. A processor that the table does not have may be a new
    /// member.
    private func genericMatch(_ target: GFXArchitecture, _ device: GFXArchitecture, _ gpu: GPU) -> Match {
        let known = GFXTables.generic.first { $0.name == target.processor }
        if let member = known?.members.first(where: { $0.processor == device.processor }) {
            guard case .codeObject(let version?) = form, version < member.sinceVersion else {
                return .runs(.gfxGeneric)
            }
            return .foreign(
                .gfxGeneric, "\(builtFor), version \(version); \(gpu.label) needs version \(member.sinceVersion)")
        }
        let isPlaced =
            GFXTables.withoutGeneric.contains(device.processor)
            || GFXTables.generic.contains { $0.members.contains { $0.processor == device.processor } }
        if target.major != device.major || known != nil && isPlaced { return .foreign(.gfxGeneric) }
        return .unknown(.gfxGeneric, "\(builtFor); whether \(gpu.label) is one of these is not known")
    }

    /// - Returns: nil where the feature does not stand in the way.
    private func featureMatch(
        _ rule: CompatibilityRule, _ target: Bool?, _ setting: Bool?, _ device: GFXArchitecture, _ gpu: GPU
    ) -> Match? {
        guard let target, target != setting else { return nil }
        if setting != nil { return .foreign(rule, "\(builtFor); this host has \(gpu.label(as: device))") }
        // Without a setting XNACK is off: only what wants it on may not run.
        if rule == .xnack, !target { return nil }
        return .unknown(rule, "\(builtFor); runs on \(gpu.label) where \(rule.rawValue) is \(target ? "on" : "off")")
    }
}
