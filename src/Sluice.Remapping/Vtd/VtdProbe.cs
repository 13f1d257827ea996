using Sluice.Formats.PageTables;
using Sluice.Formats.Vtd;
using Sluice.Remapping.Units;

namespace Sluice.Remapping.Vtd;

/// <summary>What a VT-d unit says that it can do, and what of it this driver needs.</summary>
/// <remarks>VT-d specification 11.4.2 and 11.4.3.</remarks>
internal static class VtdProbe
{
    private const int LeastTopLevel = 2;

    // What the unit takes for interrupt requests on any machine: 3.14.
    private static readonly LogicalRange InterruptAddresses = new(new(0xFEE0_0000), new(0xFEEF_FFFF));

    /// <summary>Maps a unit's registers, all of them, and reads its capabilities.</summary>
    /// <param name="platform">The machine.</param>
    /// <param name="unit">The unit.</param>
    /// <exception cref="RemappingException">
    /// Nothing is where its registers should be, or the unit does not answer or lacks what this driver needs.
    /// </exception>
    public static (RegisterWindow Registers, VtdCapability Capability, VtdExtendedCapability Extended) Open(
        IPlatform platform, VtdUnitDescription unit)
    {
        RegisterWindow registers = Map(platform, unit, VtdRegister.LeastLength);
        VtdCapability capability;
        VtdExtendedCapability extended;
        try
        {
            capability = new(registers.Read64(VtdRegister.Capability));
            extended = new(registers.Read64(VtdRegister.ExtendedCapability));
        }
        catch (Exception e) { throw new RemappingException($"{unit} does not answer: {e.Message}", e); }
        Check(unit, capability, extended);
        uint needed = RegisterBytes(capability, extended);
        return (needed > registers.Length ? Map(platform, unit, needed) : registers, capability, extended);
    }

    /// <summary>What the unit can do, in words that every kind of unit shares.</summary>
    /// <param name="capability">CAP.</param>
    public static UnitTraits TraitsOf(VtdCapability capability)
    {
        ulong widths = 0;
        for (int level = LeastTopLevel; level <= VtdSecondStage.MaximumTopLevel; level++)
        {
            if (capability.SupportsTopLevel(level))
            {
                widths |= UnitTraits.Width(
                    VtdSecondStage.GranuleLog2 + VtdSecondStage.IndexBits * (level + 1));
            }
        }
        return new(
            VtdSecondStage.Name, VtdSecondStage.GranuleLog2,
            1UL << 12 | (capability.Leaves2M ? 1UL << 21 : 0) | (capability.Leaves1G ? 1UL << 30 : 0),
            widths, capability.MaximumAddressBits, capability.Domains)
        {
            NeedsAnnouncement = capability.CachingMode || capability.NeedsWriteBufferFlush,
            Holes = [InterruptAddresses],
        };
    }

    /// <summary>The top level of tables that translate <paramref name="width"/> address bits.</summary>
    /// <param name="width">39, 48 or 57.</param>
    public static int TopLevelOf(int width) =>
        (width - VtdSecondStage.GranuleLog2) / VtdSecondStage.IndexBits - 1;

    /// <summary>The levels that hold leaves of <paramref name="pageSizes"/>: bit n for level n.</summary>
    /// <param name="pageSizes">Bit n for 2^n bytes.</param>
    public static uint LeafLevelsOf(ulong pageSizes) =>
        1u | (uint)((pageSizes >> (21 - 1)) & 0b10) | (uint)((pageSizes >> (30 - 2)) & 0b100);

    private static RegisterWindow Map(IPlatform platform, VtdUnitDescription unit, uint bytes)
    {
        try { return platform.MapRegisters(unit.Registers, bytes); }
        catch (ArgumentException e)
        {
            // Where they are is the firmware's word, not the caller's.
            throw new RemappingException($"{unit} has no registers there, 0x{bytes:X} bytes", e);
        }
    }

    // Whole pages up to the last register that the unit names. Firmware knows less: older tables have no size, newer
    // ones a wrong one. Bounded by the width of the fields: five pages.
    private static uint RegisterBytes(VtdCapability capability, VtdExtendedCapability extended)
    {
        uint records = capability.FaultRecordOffset + (uint)capability.FaultRecords * FaultRecord.Size;
        uint last = Math.Max(records, extended.InvalidateAddressOffset + 16u);
        return (last + VtdRegister.LeastLength - 1) & ~(VtdRegister.LeastLength - 1);
    }

    private static void Check(VtdUnitDescription unit, VtdCapability capability, VtdExtendedCapability extended)
    {
        if (capability.Word is 0 or ulong.MaxValue) { throw new RemappingException($"{unit} does not answer"); }
        if (!extended.QueuedInvalidation) { throw new RemappingException($"{unit} has no queued invalidation"); }
        if ((capability.AddressWidths & 0b1110) == 0)
        {
            throw new RemappingException($"{unit} supports no known table depth");
        }
        if (Math.Min(capability.FaultRecordOffset, extended.InvalidateAddressOffset) < VtdRegister.FixedEnd)
        {
            throw new RemappingException($"{unit} names fault or invalidation registers among its fixed ones");
        }
    }
}
