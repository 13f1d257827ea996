namespace Sluice.Remapping;

/// <summary>What a unit lets a source into: a domain as the unit sees it.</summary>
/// <param name="Id">The tag of its entries in the units' caches, not 0.</param>
/// <param name="Tables">Where its logical addresses lead.</param>
internal readonly record struct AddressSpace(ushort Id, IDomainTables Tables);
