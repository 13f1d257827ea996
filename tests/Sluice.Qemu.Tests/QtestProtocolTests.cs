using System.Diagnostics;
using Sluice.Machines;
using Sluice.Qemu.Tests.Protocol;

namespace Sluice.Qemu.Tests;

/// <summary>
/// Our qtest server answers what QEMU answers, line by line. Replay one random program with <c>SLUICE_SEED=n</c>, run
/// many with <c>SLUICE_SEED=first SLUICE_PROGRAMS=count</c>.
/// </summary>
public sealed class QtestProtocolTests(ITestOutputHelper output)
{
    private const int MostFailures = 5;

    // Each line once answered otherwise here: the address register's low bits dropped; short base64 filled up with
    // zeros; comments and double spaces; times that have passed; signs; data that is none.
    private static readonly string[] Lines =
    [
        "outl 0xcf8 0x80000002", "inl 0xcf8", "inw 0xcfc", "inl 0xcfc", "inb 0xcfc", "inb 0xcfd", "inw 0xcfe",
        "inl 0xcfd",
        "inb 0xcff", "inw 0xcff", "inl 0xcfe", "outl 0xcf8 0x80000001", "inl 0xcfc", "inw 0xcfc", "inb 0xcfe",
        "outl 0xcf8 0x80000003", "inl 0xcfc", "inw 0xcfc", "inb 0xcfc",
        "outl 0xcf8 0xffffffff", "inl 0xcf8", "outl 0xcf8 0x12345678", "inl 0xcf8", "inb 0xcf8", "inw 0xcf8",
        "inb 0xcf9",
        "inb 0xcfa", "inl 0xcf9", "inw 0xcfa", "inl 0xcf7", "outb 0xcf8 0x11", "inl 0xcf8", "outw 0xcf8 0x2222",
        "inl 0xcf8", "outb 0xcfb 0x80", "inl 0xcf8", "outl 0xcfa 5", "inl 0xcf8", "inl 0xcfc",
        "outl 0xcf8 0x800028ff", "inl 0xcfc", "outl 0xcf8 0x8000283d", "outw 0xcfc 0x55aa", "outl 0xcf8 0x8000283c",
        "inl 0xcfc", "outw 0xcfd 0x7777", "inl 0xcfc", "outb 0xcfc 0x21", "inl 0xcfc",
        "inl 0x1234", "inl 0x1235", "inw 0x1235", "inb 0x1235",
        "memset 0x200000 0x20 0xee", "b64write 0x200000 8 AQID", "b64read 0x200000 8", "b64write 0x200000 2 AQIDBA==",
        "read 0x200000 8", "b64write 0x200000 4 !!!!", "b64write 0x200000 4 AQ", "b64write 0x200000 4 AQIDB",
        "b64write 0x200000 4 A!Q!I!D!B!A!", "read 0x200000 8", "b64write 0x200000 4 AQ==AQ==", "read 0x200000 8",
        "b64write 0x200000 4 AQ=BAQID", "read 0x200000 8", "b64write 0x200000 4 ", "b64write 0x200000 4 AQI",
        "b64read 0x200000 0", "b64write 0x200000 0 AQID",
        "write 0x200000 4 0x", "write 0x200000 4 ab", "write 0x200000 4 0x1", "read 0x200000 8",
        "write 0x200000 4 0x123",
        "read 0x200000 8", "write 0x200000 4 xx345678", "read 0x200000 8", "write 0x200000 4 0xzA1zG2aB",
        "read 0x200000 8", "write 0x200000 4 0x1234567890", "read 0x200000 8", "write 0x200000 4  0x11223344",
        "write 0x200000 0 0x12",
        "writel 0x200000 -1", "readl 0x200000", "writel 0x200000 +5", "readl 0x200000", "writeq 0x200000 -0x10",
        "readq 0x200000", "writeq 0x200000 0X1F", "readq 0x200000", "writeq 0x200000 0b101", "readq 0x200000",
        "writeq 0x200000 \t017", "readq 0x200000 ", "readq 0x200000 junk", "readl 18446744073709551612",
        "writeb 0x200000 0x1ff", "readw 0x200000", "readq -8", "memset 0x200000 0 5", "memset 0x200000 4 -2",
        "readq 0x200000",
        "# a comment\nendianness", "#\nendianness", "\nendianness", "  # x", "   ", "\t", "readl\t0x0", " readl 0",
        "READL 0", "readl0x0", "endianness x", new('A', 100),
        "clock_set 1000000000", "clock_set 1000000000", "clock_set 5", "clock_set -1", "clock_step 0", "clock_step -1",
        "clock_step 0x10", "clock_step 010", "clock_step +5",
        "irq_intercept_in nobody", "irq_intercept_in ioapic x", "no_such_command",
    ];

    // Seen failing: the present time refused as one that has passed. Now and then a QEMU is some milliseconds ahead of the
    // step that it was told, as its host's clock has it: what differs from three of them is a difference.
    [Fact]
    public void OddLinesAreAnsweredAsQemuAnswersThem()
    {
        List<string> wrong = [];
        for (int attempt = 0; attempt < 3; attempt++)
        {
            using ProtocolPair pair = new();
            wrong = pair.Differ(Lines);
            if (wrong.Count == 0) { break; }
        }
        Assert.Empty(wrong);
    }

    // Seen failing: a reserved size with a clear enable bit, which took ECAM away.
    [Fact]
    public void AReservedSizeOfEcamChangesNothing()
    {
        using ProtocolPair pair = new();
        Assert.Empty(pair.Differ([
            "outl 0xcf8 0x80000060", "outl 0xcfc 0xb0000001", "readl 0xb0000000", "outl 0xcfc 0xc0000006", "inl 0xcfc",
            "readl 0xb0000000", "readl 0xc0000000", "outl 0xcfc 0xc0000007", "readl 0xb0000000",
            "outl 0xcfc 0xb0000000",
            "readl 0xb0000000", "outl 0xcfc 0xb0000006", "readl 0xb0000000"]));
    }

    // Seen failing: short base64 filled up with zeros; plus signs refused; comments answered.
    [Fact]
    public void RandomLinesAreAnsweredAlike()
    {
        _ = Qemu.Require();
        (int seed, int programs) = Seeds.Choose(40);
        Assert.Equal(0, Pin.Run(() => RunAll(seed, programs)));
    }

    // Seen failing: ECAM at a place of its own whatever PCIEXBAR said.
    [Fact]
    public void EcamIsWherePciexbarSays()
    {
        using ProtocolPair pair = new();
        List<string> lines = [];
        foreach (ulong word in (ulong[])[0xB000_0001, 0, 0xE000_0001, 0xE800_0003, 0xE400_0005, 0xF_E000_0001,
            0xFFFF_FFF0_E000_0001, 0xE000_0000, 0xE000_0001, 0xF000_0007, 0xEFFF_FF01])
        {
            lines.AddRange(["outl 0xcf8 0x80000064", $"outl 0xcfc {word >> 32}", "inl 0xcfc", "outl 0xcf8 0x80000060",
                $"outl 0xcfc {(uint)word}", "inl 0xcfc"]);
            lines.AddRange(((ulong[])[0xB000_0000, 0xB002_8000, 0xE002_8000, 0xE802_8000, 0xE402_8002, 0xE800_0000,
                0xE400_0000, 0xE000_0000, 0xF_E002_8001, 0xF002_8000, 0xE3F0_0000, 0xE7F0_0000, 0xEFF0_0000])
                .SelectMany(static a => (string[])[$"readl {a}", $"readw {a}", $"readq {a}", $"read {a} 7"]));
        }
        Assert.Empty(pair.Differ(lines));
    }

    private int RunAll(int seed, int programs)
    {
        long started = Stopwatch.GetTimestamp(), lines = 0;
        using ProtocolPair pair = new(processor: Pin.Processor);
        int failures = 0;
        for (int i = 0; i < programs && failures < MostFailures; i++)
        {
            IReadOnlyList<string> program = ProtocolProgram.Create(seed + i);
            lines += program.Count;
            List<string> sent = [], wrong = [];
            foreach (string line in program)
            {
                sent.Add(line);
                wrong = pair.Differ([line], withTime: false);
                if (wrong.Count != 0) { break; }
            }
            if (wrong.Count == 0) { continue; }
            failures++;
            output.WriteLine($"seed {seed + i}:\n    {string.Join("\n    ", sent)}\n  {wrong[0]}");
        }
        output.WriteLine($"{programs} programs, {lines} lines, {Stopwatch.GetElapsedTime(started).TotalSeconds:0.0} s");
        return failures;
    }
}
