using System.Numerics;
using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <summary>What a VT-d unit is built with: what CAP and ECAP report, and the size of its caches.</summary>
/// <remarks>
/// The defaults are those of the in-process machine; <see cref="Qemu"/> is the unit of QEMU's q35 machine.
/// </remarks>
public sealed record VtdOptions
{
    /// <summary>QEMU 11's intel-iommu with interrupt remapping off: one fault record, 3 and 4 levels.</summary>
    public static VtdOptions Qemu { get; } = new()
    {
        AddressBits = 48, FaultRecords = 1, RootTableSetInvalidates = true,
    };

    /// <summary>What it is called in messages; not empty.</summary>
    public string Name { get; init; } = "VT-d";

    /// <summary>VER: major version in 7:4, minor in 3:0.</summary>
    public byte Version { get; init; } = 0x10;

    /// <summary>
    /// The widest logical address: 39 (3 levels), 48 (also 4) or 57 (also 5). CAP.MGAW and CAP.SAGAW.
    /// </summary>
    public int AddressBits { get; init; } = 57;

    /// <summary>Physical address width, 32 to 52: address bits above it are reserved in every table.</summary>
    public int HostAddressBits { get; init; } = 48;

    /// <summary>Second-stage leaves of 2 MiB (CAP.SLLPS).</summary>
    public bool Leaves2M { get; init; } = true;

    /// <summary>Second-stage leaves of 1 GiB (CAP.SLLPS).</summary>
    public bool Leaves1G { get; init; } = true;

    /// <summary>
    /// Domain ids are this many bits wide: 4 to 16, even (CAP.ND). Wider ids are reserved bits in a context entry.
    /// </summary>
    public int DomainIdBits { get; init; } = 16;

    /// <summary>Pass-through contexts (ECAP.PT).</summary>
    public bool PassThrough { get; init; } = true;

    /// <summary>
    /// CAP.CM: the unit also caches what is absent or malformed, so making something present needs an invalidation too.
    /// </summary>
    public bool CachingMode { get; init; }

    /// <summary>CAP.RWBF: software must flush the write buffer. The flush itself has nothing to do here.</summary>
    public bool NeedsWriteBufferFlush { get; init; }

    /// <summary>
    /// ECAP.C: table walks see the processor's caches. False only to make software flush; the walks always do.
    /// </summary>
    public bool CoherentWalks { get; init; }

    /// <summary>
    /// CAP.PSI: page-selective IOTLB invalidation; without it such requests cover the domain, and say so.
    /// </summary>
    public bool PageSelective { get; init; } = true;

    /// <summary>CAP.MAMV: the largest address mask of a page-selective invalidation, 0 to 45.</summary>
    public int MaximumAddressMask { get; init; } = 18;

    /// <summary>CAP.ESRTPS: setting the root table also empties the caches.</summary>
    public bool RootTableSetInvalidates { get; init; }

    /// <summary>Fault recording registers, 1 to 256 (CAP.NFR).</summary>
    public int FaultRecords { get; init; } = 8;

    /// <summary>
    /// Whether a fault is dropped while the same source already has a record waiting: by default it is, as in QEMU's
    /// unit.
    /// </summary>
    public bool CompressFaults { get; init; } = true;

    /// <summary>Where the fault records start: a multiple of 16 in the register window (CAP.FRO).</summary>
    public uint FaultRecordOffset { get; init; } = 0x220;

    /// <summary>Where IVA and IOTLB are: a multiple of 16 in the register window (ECAP.IRO).</summary>
    public uint InvalidateAddressOffset { get; init; } = 0xF0;

    /// <summary>Sets of the IOTLB for 4 KiB pages, a power of two; a quarter as many for 2 MiB and 1 GiB.</summary>
    public int IotlbSetsLog2 { get; init; } = 9;

    /// <summary>Ways of every IOTLB set, 1 to 15. With 3 a set fills one cache line.</summary>
    public int IotlbWays { get; init; } = 3;

    /// <summary>Sets of the context cache, a power of two.</summary>
    public int ContextSetsLog2 { get; init; } = 4;

    /// <summary>Ways of the context cache, 1 to 15.</summary>
    public int ContextWays { get; init; } = 3;

    /// <summary>
    /// How long an invalidation waits for a DMA in flight before it gives up: a device model that never leaves its
    /// port. The register write that runs the queue takes that long and then throws; driver software does not get to
    /// count that time against its own limit, and whoever else writes to the queue waits behind it. Far above what a
    /// busy host takes from a thread, because a DMA given up wrongly costs the whole unit.
    /// </summary>
    public TimeSpan DrainLimit { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The capability register.</summary>
    public VtdCapability Capability => new(
        (uint)((DomainIdBits - 4) / 2)
        | Flag(NeedsWriteBufferFlush, 4)
        | Flag(CachingMode, 7)
        | Flag(AddressBits >= 39, 9) | Flag(AddressBits >= 48, 10) | Flag(AddressBits >= 57, 11)
        | ((ulong)(uint)(AddressBits - 1) << 16)
        | ((ulong)(FaultRecordOffset / 16) << 24)
        | Flag(Leaves2M, 34) | Flag(Leaves1G, 35)
        | Flag(PageSelective, 39)
        | ((ulong)(uint)(FaultRecords - 1) << 40)
        | ((ulong)(uint)MaximumAddressMask << 48)
        | Flag(true, 54) | Flag(true, 55)
        | Flag(RootTableSetInvalidates, 63));

    /// <summary>
    /// The extended capability register. Interrupt remapping, device TLBs and scalable mode are absent.
    /// </summary>
    public VtdExtendedCapability ExtendedCapability => new(
        Flag(CoherentWalks, 0)
        | Flag(true, 1)
        | Flag(PassThrough, 6)
        | ((ulong)(InvalidateAddressOffset / 16) << 8));

    /// <summary>The levels that may hold leaves, as the walk wants them.</summary>
    internal uint LeafLevels => 1u | (Leaves2M ? 2u : 0) | (Leaves1G ? 4u : 0);

    /// <summary>
    /// The size of the register window: all fault records inside, and 2^n pages, because firmware can say no other.
    /// </summary>
    internal uint WindowLength => Math.Max(
        VtdRegister.LeastLength,
        BitOperations.RoundUpToPowerOf2(Math.Max(FaultRecordEnd, InvalidateAddressOffset + 16)));

    private uint FaultRecordEnd => FaultRecordOffset + (uint)FaultRecords * 16;

    /// <summary>Throws one clear line for a unit that cannot be built.</summary>
    internal void Validate()
    {
        Require(!string.IsNullOrEmpty(Name), $"{nameof(Name)} is not empty");
        Require(AddressBits is 39 or 48 or 57, $"{nameof(AddressBits)} is 39, 48 or 57, not {AddressBits}");
        RequireIn(HostAddressBits, 32, 52, nameof(HostAddressBits));
        RequireIn(DomainIdBits, 4, 16, nameof(DomainIdBits));
        Require(DomainIdBits % 2 == 0, $"{nameof(DomainIdBits)} is even, not {DomainIdBits}");
        RequireIn(MaximumAddressMask, 0, 45, nameof(MaximumAddressMask));
        RequireIn(FaultRecords, 1, 256, nameof(FaultRecords));
        RequireIn(IotlbSetsLog2, 0, 16, nameof(IotlbSetsLog2));
        RequireIn(IotlbWays, 1, 15, nameof(IotlbWays));
        RequireIn(ContextSetsLog2, 0, 16, nameof(ContextSetsLog2));
        RequireIn(ContextWays, 1, 15, nameof(ContextWays));
        Require(DrainLimit > TimeSpan.Zero, $"{nameof(DrainLimit)} is positive");
        RequireOffset(FaultRecordOffset, nameof(FaultRecordOffset));
        RequireOffset(InvalidateAddressOffset, nameof(InvalidateAddressOffset));
        Require(
            InvalidateAddressOffset + 16 <= FaultRecordOffset || FaultRecordEnd <= InvalidateAddressOffset,
            "the fault records and IVA overlap");
    }

    private static void RequireIn(int value, int first, int last, string name) =>
        Require(value >= first && value <= last, $"{name} is {first} to {last}, not {value}");

    // Ten bits times 16 are what CAP and ECAP can say.
    private static void RequireOffset(uint offset, string name) =>
        Require(
            offset % 16 == 0 && offset is >= VtdRegister.FixedEnd and <= 0x3FF0,
            $"{name} is a multiple of 16 from 0x{VtdRegister.FixedEnd:X} to 0x3FF0, not 0x{offset:X}");

    private static ulong Flag(bool value, int bit) => value ? 1UL << bit : 0;

    private static void Require(bool condition, string rule)
    {
        if (!condition) { throw new ArgumentException(rule); }
    }
}
