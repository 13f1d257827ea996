using System.Diagnostics;
using System.Globalization;
using Sluice.Machines.Qemu;
using Sluice.Machines.Qtest;

namespace Sluice.Cli.Bench;

/// <summary>
/// Register reads over qtest, one answer awaited after the other, held against writes that are posted together. Pinned,
/// both processes share one processor: no wake-up has to cross to another core.
/// </summary>
internal sealed class QtestCase : BenchCase
{
    private const int Processor = 0;
    private static readonly PhysicalAddress GlobalStatus = new(0xFED9_001C);
    private static readonly PhysicalAddress Somewhere = new(0x20_0000);
    private readonly bool _pinned;
    private readonly QemuMachine _machine;

    /// <summary>Starts a QEMU of its own.</summary>
    public QtestCase(bool pinned)
    {
        _pinned = pinned;
        _machine = QemuMachine.Start(new() { MemoryBytes = 64 << 20, Processor = pinned ? Processor : null });
        if (pinned) { KeepThisThreadOn($"{Processor}"); }
    }

    /// <summary>Whether there is a QEMU to measure.</summary>
    public static bool IsPossible => QemuLauncher.Find() is not null;

    /// <inheritdoc/>
    public override string Name => NameOf(_pinned);

    /// <inheritdoc/>
    public override string What => "one 32-bit register read of QEMU's VT-d over qtest, answer included";

    /// <inheritdoc/>
    public override string BaselineName => "posted 64-bit writes";

    /// <inheritdoc/>
    public override BenchAnchor? Anchor => _pinned
        ? new("a C# client on one core with QEMU, 50,000 to 55,000 per second", 18_300)
        : new("a C# client, 15,800 to 16,900 per second", 61_000);

    /// <inheritdoc/>
    public override double ExpectedNanoseconds => 20_000;

    /// <summary>A row's name.</summary>
    public static string NameOf(bool pinned) => pinned ? "qtest-read-pinned" : "qtest-read";

    /// <inheritdoc/>
    public override void Run(int operations)
    {
        for (int i = 0; i < operations; i++) { _machine.Qtest.Read32(GlobalStatus); }
    }

    /// <inheritdoc/>
    public override void RunBaseline(int operations)
    {
        for (int i = 0; i < operations; i++) { _machine.Qtest.PostWrite64(Somewhere, (ulong)i); }
        _machine.Qtest.Flush();
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_pinned) { KeepThisThreadOn($"0-{Environment.ProcessorCount - 1}"); }
        _machine.Dispose();
    }

    private static void KeepThisThreadOn(string processors)
    {
        string link = File.ResolveLinkTarget("/proc/thread-self", returnFinalTarget: false)?.Name ?? "";
        if (!int.TryParse(link, NumberStyles.None, CultureInfo.InvariantCulture, out int thread)) { return; }
        ProcessStartInfo start = new("taskset", ["-cp", processors, $"{thread}"]) { RedirectStandardOutput = true };
        try
        {
            using Process taskset = Process.Start(start)!;
            taskset.WaitForExit();
        }
        catch (System.ComponentModel.Win32Exception)
        {
            // Without taskset the row is measured unpinned, and says so by its figure.
        }
    }
}
