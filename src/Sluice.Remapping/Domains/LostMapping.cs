namespace Sluice.Remapping;

/// <summary>
/// A mapping that was unmapped under the deferred policy, and whose flush no unit confirmed: a device may reach the
/// pages for ever. Their frames are in quarantine, whoever had them.
/// </summary>
/// <param name="Range">Where they were mapped.</param>
/// <param name="Pages">The pages, in order.</param>
public sealed record LostMapping(LogicalRange Range, IReadOnlyList<PhysicalAddress> Pages);
