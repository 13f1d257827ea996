namespace Sluice.Formats.PageTables;

/// <summary>The stage of an Arm format: where the rights are, and whether hardware manages the dirty state.</summary>
public interface IArmStage
{
    /// <summary>
    /// Whether it is stage 2: rights in two bits, no restrictions in table entries, roots of up to 16 tables.
    /// </summary>
    static abstract bool IsSecond { get; }

    /// <summary>
    /// Whether hardware manages the dirty state (FEAT_HAFDBS; HD of the SMMU's context descriptor, S2HD of its stream
    /// table entry): a leaf with DBM is writable, and its first write sets the write permission.
    /// </summary>
    static virtual bool ManagesDirty => false;
}

/// <summary>Stage 1: a device's own addresses.</summary>
public readonly struct ArmStage1 : IArmStage
{
    /// <inheritdoc/>
    public static bool IsSecond => false;
}

/// <summary>Stage 2: a guest's physical addresses.</summary>
public readonly struct ArmStage2 : IArmStage
{
    /// <inheritdoc/>
    public static bool IsSecond => true;
}

/// <summary>Stage 1 with hardware management of the dirty state.</summary>
public readonly struct ArmStage1Dirty : IArmStage
{
    /// <inheritdoc/>
    public static bool IsSecond => false;

    /// <inheritdoc/>
    public static bool ManagesDirty => true;
}

/// <summary>Stage 2 with hardware management of the dirty state.</summary>
public readonly struct ArmStage2Dirty : IArmStage
{
    /// <inheritdoc/>
    public static bool IsSecond => true;

    /// <inheritdoc/>
    public static bool ManagesDirty => true;
}
