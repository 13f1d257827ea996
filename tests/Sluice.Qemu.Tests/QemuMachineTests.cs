using System.Diagnostics;
using System.Text;
using Sluice.Formats.Vtd;
using Sluice.Machines;
using Sluice.Machines.Qemu;
using Sluice.Machines.Qtest;

namespace Sluice.Qemu.Tests;

/// <summary>A temporary folder of the tests' own shows what a machine leaves there.</summary>
public sealed class QemuMachineTests : IDisposable
{
    private static readonly string[] Public = ["/dev/shm", "/var/tmp"];
    private readonly string? _temporary = Environment.GetEnvironmentVariable("TMPDIR");
    private readonly string _folder = Directory.CreateTempSubdirectory("sluice-qemu-tests").FullName;
    private readonly HashSet<string> _before = [.. InPublicFolders()];

    // Nothing runs beside these tests.
    public QemuMachineTests() => Environment.SetEnvironmentVariable("TMPDIR", _folder);

    public void Dispose()
    {
        Environment.SetEnvironmentVariable("TMPDIR", _temporary);
        Directory.Delete(_folder, recursive: true);
    }

    private static QemuMachineOptions Options() => new() { Launcher = Qemu.Require(), MemoryBytes = 64 << 20 };

    // Seen failing: the unit's properties not passed on.
    [Fact]
    public void OffersTheUnitThatTheReferenceTellsOf()
    {
        using var machine = QemuMachine.Start(Options());
        RegisterWindow unit = machine.MapRegisters(new(0xFED9_0000), 0x1000);
        Assert.Equal(0x80D2_008C_222F_0606UL, unit.Read64(VtdRegister.Capability));
        Assert.Equal(0xF42UL, unit.Read64(VtdRegister.ExtendedCapability));
        Assert.Equal(0x10u, unit.Read32(VtdRegister.Version));
    }

    // Seen failing: the second part of a long block at the first one's place.
    [Fact]
    public void MemoryIsSharedBothWays()
    {
        using var machine = QemuMachine.Start(Options());
        Assert.True(machine.Memory.TryWrite64(new(0x20_0000), 0x1122_3344_5566_7788));
        Assert.Equal(0x1122_3344_5566_7788UL, machine.Qtest.Read64(new(0x20_0000)));
        machine.Qtest.Write32(new(0x20_1000), 0xCAFE_F00D);
        Assert.True(machine.Memory.TryRead32(new(0x20_1000), out uint word));
        Assert.Equal(0xCAFE_F00Du, word);
        byte[] block = new byte[100_000];
        new Random(1).NextBytes(block);
        machine.Qtest.WriteBlock(new(0x30_0003), block);
        byte[] back = new byte[block.Length];
        machine.Qtest.ReadBlock(new(0x30_0003), back);
        Assert.Equal(block, back);
    }

    /// <summary>Above 2.75 GiB the file is split at 4 GiB as QEMU splits it.</summary>
    // Seen failing: the high bank at the file's beginning.
    [Fact]
    public void HighMemoryIsWhereQemuHasIt()
    {
        using var machine = QemuMachine.Start(Options() with { MemoryBytes = 3UL << 30 });
        Assert.True(machine.Memory.TryWrite64(new(0x1_2345_6000), 0xABCD));
        Assert.Equal(0xABCDUL, machine.Qtest.Read64(new(0x1_2345_6000)));
        Assert.False(machine.Memory.TryRead64(new(0x8000_0000), out _));
    }

    // Seen failing: a checksum off by one.
    [Fact]
    public void AcpiTablesAreWhereFirmwarePutsThem()
    {
        using var machine = QemuMachine.Start(Options());
        byte[] bios = new byte[0x2_0000];
        Assert.True(machine.Memory.TryRead(new(0xE_0000), bios));
        int rsdp = Enumerable.Range(0, bios.Length / 16).Select(static i => i * 16)
            .First(i => bios.AsSpan(i).StartsWith("RSD PTR "u8));
        Assert.Equal(0, bios.AsSpan(rsdp, 20).ToArray().Sum(static b => b) & 0xFF);
        Dictionary<string, byte[]> tables = [];
        byte[] root = Table(machine, BitConverter.ToUInt32(bios, rsdp + 16));
        for (int i = 36; i + 4 <= root.Length; i += 4)
        {
            byte[] table = Table(machine, BitConverter.ToUInt32(root, i));
            tables[Encoding.ASCII.GetString(table, 0, 4)] = table;
        }
        Assert.All(tables.Values.Append(root), static table => Assert.Equal(0, table.Sum(static b => b) & 0xFF));
        Assert.Superset(new HashSet<string> { "FACP", "APIC", "MCFG", "DMAR" }, tables.Keys.ToHashSet());
        Assert.Equal(0xFED9_0000UL, BitConverter.ToUInt64(tables["DMAR"], 48 + 8));
        Assert.Equal(0xB000_0000UL, BitConverter.ToUInt64(tables["MCFG"], 44));
    }

    private static byte[] Table(QemuMachine machine, uint address)
    {
        // QEMU's tables lie at odd addresses.
        byte[] length = new byte[4];
        Assert.True(machine.Memory.TryRead(new(address + 4), length));
        byte[] table = new byte[BitConverter.ToUInt32(length)];
        Assert.True(machine.Memory.TryRead(new(address), table));
        return table;
    }

    // Seen failing: ECAM somewhere else.
    [Fact]
    public void PortsAndEcamShowTheSameFunctions()
    {
        using var machine = QemuMachine.Start(Options());
        RegisterWindow ecam = machine.MapRegisters(new(0xB000_0000), 1 << 20);
        for (uint function = 0; function < 256; function++)
        {
            machine.Ports.Out32(0xCF8, 0x8000_0000 | (function << 8));
            Assert.Equal(machine.Ports.In32(0xCFC), ecam.Read32(function << 12));
        }
        Assert.Equal(0x29C0_8086u, ecam.Read32(0));
        Assert.Equal(0x11E8_1234u, ecam.Read32(5 << 15));
    }

    // Seen failing: all that QEMU said, line ends and all.
    [Fact]
    public void ARefusedOptionIsOneLineWithWhatQemuSaid()
    {
        QemuException e = Assert.Throws<QemuException>(static () =>
            QemuMachine.Start(Options() with { Devices = ["no-such-device"] }));
        Assert.Contains("no-such-device", e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', e.Message);
        Assert.Empty(LeftOvers());
    }

    // Seen failing: other words for a program that ended at once.
    [Fact]
    public void AProgramThatIsNotQemuIsOneLine()
    {
        _ = Qemu.Require();
        foreach (string launcher in (string[])["/bin/false", "/nonexistent/qemu"])
        {
            QemuException e = Assert.Throws<QemuException>(() =>
                QemuMachine.Start(Options() with { Launcher = launcher }));
            Assert.StartsWith("QEMU did not start: ", e.Message, StringComparison.Ordinal);
        }
        Assert.Empty(LeftOvers());
    }

    // Seen failing: a connection without an autopsy; QEMU's memory in a file that kept its name.
    [Fact]
    public void ADeadQemuIsOneLineAndLeavesNothing()
    {
        using (var machine = QemuMachine.Start(Options()))
        {
            int id = OwnQemus().Single();
            using (var qemu = Process.GetProcessById(id)) { qemu.Kill(); }
            QtestException e = Assert.Throws<QtestException>(() =>
            {
                for (int i = 0; i < 100_000; i++) { machine.Qtest.Read32(new(0xFED9_0000)); }
            });
            Assert.Contains("signal 9", e.Message, StringComparison.Ordinal);
            Assert.Equal(e.Message, Assert.Throws<QtestException>(() => machine.Qtest.Read32(new(0))).Message);
        }
        Assert.Empty(LeftOvers());
    }

    // Seen failing: a time-out of its own.
    [Fact]
    public void AHungQemuIsNotWaitedForLongerThanTheTimeout()
    {
        using (var machine = QemuMachine.Start(Options() with { Timeout = TimeSpan.FromSeconds(1) }))
        {
            int id = OwnQemus().Single();
            ChildProcess.Run("kill", "-STOP", $"{id}").Good();
            long started = Stopwatch.GetTimestamp();
            QtestException e = Assert.Throws<QtestException>(() => machine.Qtest.Read32(new(0xFED9_0000)));
            Assert.InRange(Stopwatch.GetElapsedTime(started).TotalSeconds, 0.9, 5);
            Assert.Contains("did not answer", e.Message, StringComparison.Ordinal);
        }
        Assert.Empty(OwnQemus());
        Assert.Empty(LeftOvers());
    }

    // Seen failing: QEMU ended after the threads that wait for its answers: ten seconds, an exception, and it stayed.
    [Fact]
    public void AStoppedQemuIsEndedAtOnce()
    {
        var machine = QemuMachine.Start(Options() with { Timeout = TimeSpan.FromSeconds(30) });
        int id = OwnQemus().Single();
        machine.MapRegisters(new(0xFED9_0000), 0x1000).Write32(VtdRegister.FaultStatus, 0);
        ChildProcess.Run("kill", "-STOP", $"{id}").Good();
        // The poller asks for the clock every few milliseconds, and has asked in vain by now.
        Thread.Sleep(100);
        long started = Stopwatch.GetTimestamp();
        machine.Dispose();
        Assert.InRange(Stopwatch.GetElapsedTime(started).TotalSeconds, 0, 8);
        Assert.Empty(OwnQemus());
        Assert.Empty(LeftOvers());
    }

    // Seen failing: the file's own error, which no caller looks for.
    [Theory]
    [InlineData("/no/such", "'/no/such': No such file or directory")]
    [InlineData("/dev/zero", "'/dev/zero' is a character device")]
    [InlineData("nbd:127.0.0.1:1", "'nbd:127.0.0.1:1': No such file or directory")]
    public void ADiskThatIsNoFileIsOneLine(string disk, string expected)
    {
        QemuException e = Assert.Throws<QemuException>(() => QemuMachine.Start(Options() with { Disk = disk }));
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
    }

    /// <summary>The signal by which QEMU learns of our end is sent when the starting thread ends.</summary>
    // Seen failing: QEMU started by the calling thread.
    [Fact]
    public void QemuOutlivesTheThreadThatStartedTheMachine()
    {
        QemuMachine? machine = null;
        QemuMachineOptions options = Options();
        Thread thread = new(() => machine = QemuMachine.Start(options));
        thread.Start();
        thread.Join();
        using (machine)
        {
            Thread.Sleep(500);
            Assert.Equal(0x10u, machine!.Qtest.Read32(new(0xFED9_0000)));
        }
    }

    // Seen failing: nobody asked who answered.
    [Fact]
    public void ALauncherThatDoesNotBecomeQemuIsRefused()
    {
        string script = Path.GetTempFileName();
        try
        {
            File.WriteAllText(script, $"#!/bin/sh\n'{Qemu.Require()}' \"$@\" || exit\nexit 0\n");
            ChildProcess.Run("chmod", "+x", script).Good();
            QemuException e = Assert.Throws<QemuException>(() =>
                QemuMachine.Start(Options() with { Launcher = script }));
            Assert.Contains("must 'exec' QEMU", e.Message, StringComparison.Ordinal);
        }
        finally { File.Delete(script); }
    }

    // Seen failing: a refusal that ends the connection.
    [Fact]
    public void ARefusedCommandHurtsOnlyItself()
    {
        using var machine = QemuMachine.Start(Options());
        Assert.Throws<QtestException>(() => machine.Qtest.Command("make_coffee"));
        machine.Qtest.PostWrite64(new(0x10_0000), 7);
        machine.Qtest.PostRead64(new(0x10_0000));
        Span<ulong> answers = stackalloc ulong[4];
        Assert.Equal(1, machine.Qtest.Collect(answers));
        Assert.Equal(7UL, answers[0]);
        Assert.Equal(7UL, machine.Qtest.Read64(new(0x10_0000)));
    }

    // Whatever it is called.
    private IEnumerable<string> LeftOvers() =>
        [.. Directory.EnumerateFileSystemEntries(_folder), .. InPublicFolders().Except(_before)];

    private static IEnumerable<string> InPublicFolders() => Public.Where(Directory.Exists)
        .SelectMany(static folder => Directory.EnumerateFileSystemEntries(folder, "sluice*"));

    private static List<int> OwnQemus() =>
        [.. Children(Environment.ProcessId).Where(static id =>
            CommandLine(id).Contains("qemu-system", StringComparison.Ordinal))];

    private static IEnumerable<int> Children(int parent) =>
        Directory.EnumerateDirectories("/proc").Select(Path.GetFileName).Where(static name => int.TryParse(name, out _))
            .Select(static name => int.Parse(name!, System.Globalization.CultureInfo.InvariantCulture))
            .Where(id => Parent(id) == parent);

    private static int Parent(int id)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{id}/stat");
            return int.Parse(stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1],
                System.Globalization.CultureInfo.InvariantCulture);
        }
        catch (IOException) { return 0; }
    }

    private static string CommandLine(int id)
    {
        try
        {
            string line = File.ReadAllText($"/proc/{id}/cmdline");
            return line.StartsWith("/bin/sh", StringComparison.Ordinal) ? "" : line;
        }
        catch (IOException) { return ""; }
    }
}
