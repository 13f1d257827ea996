using Sluice.Cli.Bench;

namespace Sluice.Cli.Tests;

public sealed class CopyOrMapTests
{
    private static uint BreakEven(params (uint Bytes, double Copy, double Map)[] lines) => CopyOrMapCase.BreakEven(
        [.. lines.Select(static l => new BenchCopyOrMapLine(l.Bytes, l.Copy, l.Map, 0))], static l => l.MapStrictNs);

    // Seen failing: the longer line's bytes instead of the middle.
    [Fact]
    public void R02_TheBreakEvenIsWhereTheLinesMeet()
    {
        Assert.Equal(3072u, BreakEven((1024, 100, 200), (2048, 100, 200), (4096, 300, 200)));
        Assert.Equal(2048u, BreakEven((1024, 100, 200), (2048, 200, 200), (4096, 300, 200)));
        Assert.Equal(0u, BreakEven((1024, 300, 200), (2048, 400, 200)));
        Assert.Equal(2048u, BreakEven((1024, 100, 200), (2048, 100, 200)));
    }
}
