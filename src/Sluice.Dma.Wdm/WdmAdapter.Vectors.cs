namespace Sluice.Dma.Wdm;

/// <summary>Misuse of a vector of common buffers: what bug check 0x1DC says, as an exception.</summary>
/// <remarks>Code 1, a wrong level, is an <see cref="IrqlException"/>; code 5, a leak, is a
/// <see cref="DmaLeak"/>.</remarks>
public sealed class CommonBufferVectorException : InvalidOperationException
{
    internal CommonBufferVectorException(int code, string message, Exception? inner = null) : base(message, inner) =>
        Code = code;

    /// <summary>2: the vector is not empty; 3: there is no such index; 4: that buffer was freed.</summary>
    public int Code { get; }
}

// Rows 33 to 35: many equal buffers, and buffers over memory that exists.
public sealed partial class WdmAdapter
{
    /// <summary>AllocateCommonBufferVector: equal common buffers, all or none.</summary>
    /// <remarks>At PASSIVE_LEVEL.</remarks>
    /// <param name="lowAddress">The lowest logical address each may take; null for any.</param>
    /// <param name="highAddress">The last; null for all the device drives.</param>
    /// <param name="cacheType">Cached or not.</param>
    /// <param name="idealNode">A NUMA node.</param>
    /// <param name="flags">Large pages or not.</param>
    /// <param name="numberOfElements">How many, at least 1.</param>
    /// <param name="sizeOfElements">Bytes in each, at least 1.</param>
    /// <param name="vector">The vector; null after an error.</param>
    /// <returns>Success; InvalidParameter: no element or byte, another flag or cache type;
    /// InsufficientResources.</returns>
    public NtStatus AllocateCommonBufferVector(
        LogicalAddress? lowAddress, LogicalAddress? highAddress, MemoryCachingType cacheType, int idealNode,
        DomainCommonBufferFlags flags, int numberOfElements, ulong sizeOfElements, out CommonBufferVector? vector)
    {
        Enter(DdiFunction.AllocateCommonBufferVector);
        vector = null;
        if (numberOfElements < 1 || sizeOfElements == 0
            || Options(lowAddress, highAddress, flags, cacheType) is not { } options)
        {
            return NtStatus.InvalidParameter;
        }
        try
        {
            vector = Adapter.AllocateCommonBufferVector(
                numberOfElements, sizeOfElements, options, nameof(AllocateCommonBufferVector), Driver);
            return NtStatus.Success;
        }
        catch (DmaException e) { return e.Failure.ToStatus(); }
        catch (ArgumentOutOfRangeException) { return NtStatus.InsufficientResources; }
    }

    /// <summary>GetCommonBufferFromVectorByIndex: one buffer of a vector.</summary>
    /// <remarks>At DISPATCH_LEVEL or below (decided; the documents say nothing).</remarks>
    /// <param name="vector">The vector.</param>
    /// <param name="index">0 to its count − 1.</param>
    /// <param name="virtualAddress">The buffer.</param>
    /// <param name="logicalAddress">What the device is told.</param>
    /// <exception cref="CommonBufferVectorException">No such index (3), or freed (4).</exception>
    /// <exception cref="InvalidOperationException">The vector is another adapter's.</exception>
    public void GetCommonBufferFromVectorByIndex(
        CommonBufferVector vector, int index, out CommonBuffer virtualAddress, out LogicalAddress logicalAddress)
    {
        Enter(DdiFunction.GetCommonBufferFromVectorByIndex);
        Own(DdiFunction.GetCommonBufferFromVectorByIndex, vector);
        CommonBuffer? buffer = null;
        Use(vector, index, v => buffer = v[index]);
        (virtualAddress, logicalAddress) = (buffer!, buffer!.Address);
    }

    /// <summary>FreeCommonBufferFromVector: frees one buffer.</summary>
    /// <remarks>At PASSIVE_LEVEL.</remarks>
    /// <param name="vector">The vector.</param>
    /// <param name="index">0 to its count − 1.</param>
    /// <exception cref="CommonBufferVectorException">No such index (3), or freed before (4).</exception>
    /// <exception cref="InvalidOperationException">The vector is another adapter's.</exception>
    public void FreeCommonBufferFromVector(CommonBufferVector vector, int index)
    {
        Enter(DdiFunction.FreeCommonBufferFromVector);
        Own(DdiFunction.FreeCommonBufferFromVector, vector);
        Use(vector, index, v => v.Free(index));
    }

    /// <summary>FreeCommonBufferVector: ends a vector whose buffers were all freed.</summary>
    /// <remarks>At PASSIVE_LEVEL.</remarks>
    /// <param name="vector">The vector.</param>
    /// <exception cref="CommonBufferVectorException">Buffers are left (2).</exception>
    /// <exception cref="InvalidOperationException">The vector was freed before, or is another adapter's.</exception>
    public void FreeCommonBufferVector(CommonBufferVector vector)
    {
        Enter(DdiFunction.FreeCommonBufferVector);
        Own(DdiFunction.FreeCommonBufferVector, vector);
        try { vector.Close(); }
        catch (InvalidOperationException e) { throw new CommonBufferVectorException(2, e.Message, e); }
        if (vector.TryEnd()) { return; }
        Tell(DdiFunction.FreeCommonBufferVector, VerificationRule.CommonBufferFreedTwice, 0, "a vector is freed again");
        throw new InvalidOperationException($"{Driver} frees a vector of common buffers twice");
    }

    private void Own(DdiFunction function, CommonBufferVector vector)
    {
        ArgumentNullException.ThrowIfNull(vector);
        if (vector.Adapter != Adapter) { ThrowForeign(function, "a vector of common buffers", vector.Adapter); }
    }

    /// <summary>
    /// CreateCommonBufferFromMdl: makes memory that exists a common buffer. The driver keeps MDL and pages;
    /// <see cref="FreeCommonBuffer"/> ends it.
    /// </summary>
    /// <remarks>
    /// At PASSIVE_LEVEL. Without a unit the pages must follow each other and be in reach. Nothing is set aside for it:
    /// it is not for the path that must make progress.
    /// </remarks>
    /// <param name="mdl">Whole pages; no chain, unless a section of one MDL is named.</param>
    /// <param name="configs">More to say, each kind once.</param>
    /// <param name="logicalAddress">What the device is told.</param>
    /// <param name="virtualAddress">The buffer; null after an error.</param>
    /// <returns>Success; InvalidParameter: no whole pages, a chain, a section past its MDL, a kind of configuration
    /// twice; NotSupported: rights where nothing enforces them, or pages that only a unit could make one run or bring
    /// into reach; InsufficientResources.</returns>
    public NtStatus CreateCommonBufferFromMdl(
        Mdl mdl, IReadOnlyList<CommonBufferConfig> configs, out LogicalAddress logicalAddress,
        out CommonBuffer? virtualAddress)
    {
        Enter(DdiFunction.CreateCommonBufferFromMdl);
        ArgumentNullException.ThrowIfNull(mdl);
        ArgumentNullException.ThrowIfNull(configs);
        (logicalAddress, virtualAddress) = (default, null);
        CommonBufferOptions options = new();
        CommonBufferConfig.SubSection? section = null;
        HashSet<Type> kinds = [];
        foreach (CommonBufferConfig config in configs)
        {
            if (!kinds.Add(config.GetType())) { return NtStatus.InvalidParameter; }
            switch (config)
            {
                case CommonBufferConfig.LogicalAddressLimits limits:
                    options = options with
                    {
                        FirstAddress = limits.MinimumAddress,
                        LastAddress = limits.MaximumAddress,
                    };
                    break;
                case CommonBufferConfig.HardwareAccess rights:
                    options = options with { Access = rights.Access };
                    break;
                case CommonBufferConfig.SubSection part:
                    section = part;
                    break;
            }
        }
        if (section is { Length: 0 } or { Offset: > uint.MaxValue }) { return NtStatus.InvalidParameter; }
        try
        {
            virtualAddress = Adapter.CreateCommonBuffer(
                mdl, options, (uint)(section?.Offset ?? 0), section?.Length ?? 0, nameof(CreateCommonBufferFromMdl),
                Driver);
            logicalAddress = virtualAddress.Address;
            return NtStatus.Success;
        }
        catch (ArgumentException) { return NtStatus.InvalidParameter; }
        catch (DmaException e)
        {
            return e.Failure is DmaFailure.NotSupported or DmaFailure.TooFragmented or DmaFailure.Unreachable
                ? NtStatus.NotSupported : e.Failure.ToStatus();
        }
    }

    private static void Use(CommonBufferVector vector, int index, Action<CommonBufferVector> action)
    {
        try { action(vector); }
        catch (ArgumentOutOfRangeException e) { throw new CommonBufferVectorException(3, e.Message, e); }
        catch (InvalidOperationException e) { throw new CommonBufferVectorException(4, e.Message, e); }
    }
}
