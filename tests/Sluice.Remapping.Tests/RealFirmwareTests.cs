using Sluice.Iommu.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>The operating-system side on machines that are built from the tables of real ones.</summary>
public sealed class RealFirmwareTests
{
    // Seen failing: regions of more than 1 GiB refused (three machines).
    [Theory]
    [InlineData(57, true)]
    [InlineData(39, false)]
    public void EveryRealTableStartsAndEveryDeviceInItGetsItsUnitAndItsMemory(int addressBits, bool largeLeaves)
    {
        int attached = 0;
        foreach ((string name, byte[] bytes) in RealTables.Of("dmar"))
        {
            VtdOptions options = new() { AddressBits = addressBits, Leaves1G = largeLeaves };
            using TablePlatform platform = new(bytes, options);
            using RemappingSystem system = RemappingSystem.Start(platform, new(), new FaultList());
            Assert.Empty(system.FirmwareProblems);
            List<NaiveStructure> table = NaiveStructure.Of(bytes);
            foreach (RequesterId device in DevicesOf(platform, table))
            {
                Check(platform, system, table, device, name);
                attached++;
            }
        }
        Assert.True(attached > 60, $"{attached} devices");
    }

    // Seen failing: a unit's register base taken as it stands, which threw out of the platform.
    [Fact]
    public void DamagedRealTablesAreRefusedWithOneLineOrStart()
    {
        Random random = new(11);
        int started = 0;
        IReadOnlyList<(string Name, byte[] Bytes)> tables = RealTables.Of("dmar");
        for (int round = 0; round < 300; round++)
        {
            byte[] sound = tables[random.Next(tables.Count)].Bytes;
            using TablePlatform platform = new(sound);
            byte[] bytes = [.. sound];
            for (int times = random.Next(1, 6); times > 0; times--)
            {
                bytes[random.Next(36, bytes.Length)] = (byte)(random.Next(3) == 0 ? 0 : random.Next(256));
            }
            TestFirmware.Seal(bytes);
            TestFirmware.Write(platform.Memory, bytes);
            try
            {
                using RemappingSystem system = RemappingSystem.Start(platform, new(), new FaultList());
                started++;
                foreach (PciAddress device in (PciAddress[])[PciAddress.From(0, 2, 0), PciAddress.From(0, 0x14, 0)])
                {
                    try { system.Attach(system.CreateDomain(new() { Devices = [device] }), device); }
                    catch (RemappingException refused) { Assert.DoesNotContain('\n', refused.Message); }
                }
            }
            catch (RemappingException refused)
            {
                Assert.DoesNotContain('\n', refused.Message);
            }
        }
        Assert.InRange(started, 30, 299);
    }

    private static List<RequesterId> DevicesOf(TablePlatform platform, List<NaiveStructure> table)
    {
        List<RequesterId> devices = [RequesterId.From(0, 0x1B, 7)];
        foreach (NaiveStructure one in table.Where(static one => one.Type is 0 or 1))
        {
            foreach ((int type, _, _, int bus, byte[] path) in one.Scopes.Where(static scope => scope.Type is 1 or 2 or 5))
            {
                Assert.Equal(2, path.Length);
                devices.Add(RequesterId.From(bus, path[0], path[1]));
                if (type == 2) { devices.Add(RequesterId.From(platform.BusBehind(bus, path), 5, 1)); }
            }
        }
        return [.. devices.Distinct()];
    }

    private static void Check(
        TablePlatform platform, RemappingSystem system, List<NaiveStructure> table, RequesterId device, string name)
    {
        PciAddress address = new(0, device);
        bool Names(NaiveStructure one) => one.Scopes.Any(scope =>
            scope.Type is 1 or 2 or 5
            && (RequesterId.From(scope.Bus, scope.Path[0], scope.Path[1]) == device
                || (scope.Type == 2 && platform.BusBehind(scope.Bus, scope.Path) == device.Bus)));
        NaiveStructure[] units = [.. table.Where(static one => one.Type == 0)];
        PhysicalAddress serving = new(
            (units.FirstOrDefault(Names) ?? units.First(static one => (one.U8(4) & 1) != 0)).U64(8));
        List<(ulong First, ulong Last)> regions =
            [.. table.Where(one => one.Type == 1 && Names(one)).Select(static one => (one.U64(8), one.U64(16)))];

        using Domain domain = system.CreateDomain(new() { Devices = [address] });
        PhysicalAddress page = platform.Buffers(1)[0];
        DomainMapping mapping = domain.MustMap([page], DmaAccess.Read);
        system.Attach(domain, address);
        foreach (PhysicalAddress unit in units.Select(static one => new PhysicalAddress(one.U64(8))))
        {
            Assert.Equal(unit == serving ? page : null,
                platform.Reach(unit, device, mapping.First, DmaAccess.Read));
        }
        foreach (ulong edge in regions.SelectMany(static one =>
            (ulong[])[one.First - 1, one.First, one.First + ((one.Last - one.First) / 2), one.Last, one.Last + 1]))
        {
            bool inside = regions.Exists(one => edge >= one.First && edge <= one.Last);
            PhysicalAddress? found = platform.Reach(serving, device, new(edge), DmaAccess.Write);
            Assert.True(found == (inside ? new PhysicalAddress(edge) : null), $"{name} {device} 0x{edge:X}: {found}");
        }
        platform.Frames.Free(page, 12);
    }
}
