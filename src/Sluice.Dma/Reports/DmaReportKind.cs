namespace Sluice.Dma;

/// <summary>What a blocked DMA turned out to be. In JSON the names are in kebab case: <c>after-unmap</c>.</summary>
public enum DmaReportKind : byte
{
    /// <summary>No mapping is or was there, and nothing else explains the address.</summary>
    NeverMapped,

    /// <summary>The first page: a pointer that was never set.</summary>
    AddressZero,

    /// <summary>In the closed pages behind a mapping of the device.</summary>
    PastTheEnd,

    /// <summary>In the page before a mapping of the device.</summary>
    BeforeTheStart,

    /// <summary>In a mapping that was given back.</summary>
    AfterUnmap,

    /// <summary>In a mapping that is for the other direction.</summary>
    WrongDirection,

    /// <summary>In a live mapping of another device.</summary>
    AnotherDevice,

    /// <summary>The address of a page of memory: a physical address that was used as a logical one.</summary>
    PhysicalAddress,

    /// <summary>One byte repeated, as debug allocators fill memory with.</summary>
    PoisonPattern,

    /// <summary>In the interrupt window or a bridge's window, which are never mapped.</summary>
    ReservedWindow,

    /// <summary>The device is attached to no domain.</summary>
    NotAttached,

    /// <summary>
    /// Blocked for a reason that the mapping history cannot judge: damaged tables, a request type that is not
    /// allowed.
    /// </summary>
    Unclassified,
}
