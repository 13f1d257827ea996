using Sluice.Formats.Acpi;

namespace Sluice.Formats.Tests.Acpi;

/// <summary>Tables of real machines, read twice, and damaged on purpose.</summary>
public sealed class RealTableTests
{
    // Seen failing: start bus read from +4 and enumeration id from +3; a scope's path cut at one step.
    [Fact]
    public void EveryFieldOfARealTableIsWhatItsBytesSay()
    {
        int fields = 0;
        void Same<T>(T expected, T found, string where)
        {
            Assert.True(Equals(expected, found), $"{where}: {expected} in the bytes, {found} found");
            fields++;
        }

        foreach ((string name, byte[] bytes) in RealTables.Of("dmar"))
        {
            Assert.True(AcpiTable.TryTake(bytes, out AcpiTable? table));
            DmarTable dmar = DmarTable.Parse(table);
            Assert.Empty(dmar.Diagnostics);
            List<NaiveStructure> structures = NaiveStructure.Of(bytes);
            Same(bytes[36] + 1, dmar.HostAddressBits, name);
            Same(bytes[37], dmar.Flags, name);
            void SameScopes(NaiveStructure one, IReadOnlyList<DmarScope> found)
            {
                Same(one.Scopes.Count(), found.Count, name);
                foreach (((int type, int flags, int id, int bus, byte[] path), DmarScope scope) in one.Scopes.Zip(found))
                {
                    Same(type, (int)scope.Type, name);
                    Same(flags, scope.Flags, name);
                    Same(id, scope.EnumerationId, name);
                    Same(bus, scope.StartBus, name);
                    Same(Convert.ToHexString(path),
                        string.Concat(scope.Path.Select(static step => $"{step.Device:X2}{step.Function:X2}")), name);
                }
            }

            NaiveStructure[] units = [.. structures.Where(static one => one.Type == 0)];
            Same(units.Length, dmar.Units.Count, name);
            foreach ((NaiveStructure one, DmarUnit unit) in units.Zip(dmar.Units))
            {
                Same((one.U8(4) & 1) != 0, unit.IncludesAll, name);
                Same(one.U8(5) & 15, unit.RegisterPagesLog2, name);
                Same(one.U16(6), unit.Segment, name);
                Same(one.U64(8), unit.Registers.Value, name);
                SameScopes(one, unit.Scopes);
            }
            NaiveStructure[] regions = [.. structures.Where(static one => one.Type == 1)];
            Same(regions.Length, dmar.ReservedRegions.Count, name);
            foreach ((NaiveStructure one, DmarReservedRegion region) in regions.Zip(dmar.ReservedRegions))
            {
                Same(one.U16(6), region.Segment, name);
                Same(one.U64(8), region.Range.First.Value, name);
                Same(one.U64(16), region.Range.Last.Value, name);
                SameScopes(one, region.Scopes);
            }
            foreach ((int type, IReadOnlyList<DmarScopeList> lists) in new[]
                { (2, dmar.RootPorts), (5, dmar.AddressTranslationCaches), (6, dmar.IntegratedDevices) })
            {
                NaiveStructure[] all = [.. structures.Where(one => one.Type == type)];
                Same(all.Length, lists.Count, name);
                foreach ((NaiveStructure one, DmarScopeList list) in all.Zip(lists))
                {
                    if (type != 6) { Same(one.U8(4), list.Flags, name); }
                    Same(one.U16(6), list.Segment, name);
                    SameScopes(one, list.Scopes);
                }
            }
            Same(structures.Count(static one => one.Type == 3), dmar.Affinities.Count, name);
            NaiveStructure[] named = [.. structures.Where(static one => one.Type == 4)];
            Same(named.Length, dmar.NamedDevices.Count, name);
            foreach ((NaiveStructure one, DmarNamedDevice device) in named.Zip(dmar.NamedDevices))
            {
                Same(one.U8(7), device.Number, name);
                Same(string.Concat(one.Bytes[8..].TakeWhile(static b => b != 0).Select(static b => (char)b)),
                    device.Name, name);
            }
        }
        Assert.True(fields > 1000, $"{fields} fields compared");
    }

    // Seen failing: every mistake of a table kept (a line for every four bytes of it, 60 times the table's size).
    [Fact]
    public void DamagedRealTablesAreReadWithBoundedWork() =>
        Fuzz([.. RealTables.Of("dmar").Select(static table => table.Bytes)], rounds: 30_000, seed: 7);

    [Fact]
    public void DamagedTablesAreReadWithBoundedWork() => Fuzz([AcpiVectors.Dmar(), AcpiVectors.Mcfg()], 30_000, seed: 8);

    private static void Fuzz(byte[][] originals, int rounds, int seed)
    {
        Random random = new(seed);
        for (int round = 0; round < rounds; round++)
        {
            byte[] bytes = Damage(originals[random.Next(originals.Length)], originals, random);
            if (!AcpiTable.TryTake(bytes, out AcpiTable? table)) { continue; }
            Assert.InRange(table.Bytes.Length, AcpiTable.HeaderLength, bytes.Length);
            long before = GC.GetAllocatedBytesForCurrentThread();
            DmarTable dmar = DmarTable.Parse(table);
            McfgTable mcfg = McfgTable.Parse(table);
            long taken = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.True(taken < 256 * 1024 + (100L * bytes.Length), $"round {round}: {taken} bytes for {bytes.Length}");
            Assert.InRange(dmar.Diagnostics.Count, 0, 257);
            Assert.All(dmar.Diagnostics, one => Assert.InRange(one.Offset, 0, bytes.Length));
            Assert.All(dmar.ReservedRegions, static one => Assert.True(one.Range.First <= one.Range.Last));
            Assert.All(mcfg.Windows, static one => Assert.True(one.FirstBus <= one.LastBus));
        }
    }

    private static byte[] Damage(byte[] original, byte[][] others, Random random)
    {
        List<byte> bytes = [.. original];
        for (int times = random.Next(1, 8); times > 0; times--)
        {
            int at = random.Next(bytes.Count);
            switch (random.Next(8))
            {
                case 0: bytes[at] ^= (byte)(1 << random.Next(8)); break;
                case 1: bytes[at] = (byte)random.Next(256); break;
                case 2: bytes[at] = (byte)(random.Next(2) * 255); break;
                case 3: bytes.RemoveRange(at, random.Next(bytes.Count - at)); break;
                case 4: bytes.InsertRange(at, new byte[random.Next(64)]); break;
                case 5: bytes.AddRange(new byte[random.Next(4096)]); break;
                case 6:
                    byte[] other = others[random.Next(others.Length)];
                    bytes.InsertRange(at, other[random.Next(other.Length)..]);
                    break;
                default:
                    // A span over and over: many structures, or many scopes.
                    byte[] span = [.. bytes.Skip(at).Take(random.Next(64))];
                    for (int i = random.Next(500); i > 0; i--) { bytes.InsertRange(at, span); }
                    break;
            }
            if (bytes.Count == 0) { bytes.Add(0); }
        }
        byte[] done = [.. bytes];
        // Most keep a length that fits, so that damage is not merely cut off.
        if (done.Length >= 8 && random.Next(4) != 0) { BitConverter.TryWriteBytes(done.AsSpan(4), done.Length); }
        return done;
    }
}
