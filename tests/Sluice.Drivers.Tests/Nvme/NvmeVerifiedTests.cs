using Sluice.Dma;
using Sluice.Drivers.Nvme;
using Sluice.Machines.Nvme;

namespace Sluice.Drivers.Tests.Nvme;

/// <summary>Rules of the DDI that a user of the driver breaks, under the driver.</summary>
public sealed class NvmeVerifiedTests
{
    // The user touches a buffer while it is written. Seen failing: what the put threw left the drain in the middle, so
    // that others waited for time-outs and resets, and the queue lost slots: 8, 5, 2.
    [Theory]
    [InlineData(VerificationMode.Log)]
    [InlineData(VerificationMode.Throw)]
    public void ABrokenRuleInsideAPutIsTheAnswerOfItsOwnCommandAlone(VerificationMode mode)
    {
        const int Depth = 8, Touched = 3;
        NvmeOptions options = new() { QueueDepth = Depth, CommandTimeout = 200_000_000 };
        using NvmeHost host = new(new MemoryMedium(Pattern.Disk(1 << 20)), options, stepped: true,
            dma: new() { Iommu = DmaIommu.None, Verification = mode });
        int broken = 0;
        host.Dma.Violated += _ => broken++;
        Mdl[] buffers = [.. Enumerable.Range(0, Depth).Select(_ => host.Buffer(4096))];
        for (int round = 1; round <= 4; round++)
        {
            ValueTask[] writes = [.. buffers.Select((b, i) => host.Disk.WriteAsync((ulong)i * 8, b, 0, 4096))];
            Assert.Equal(Depth, host.Controller.InFlight);
            Assert.True(host.Machine.Memory.TryWrite(buffers[Touched].Pages[0], [1, 2, (byte)round]));
            for (int i = 0; i < Depth; i++)
            {
                ValueTask write = writes[i];
                if (i != Touched || mode == VerificationMode.Log) { host.Controller.Wait(write); }
                else { Assert.ThrowsAny<Exception>(() => host.Controller.Wait(write)); }
            }
            Assert.Equal(round, broken);
        }
        Assert.Equal((0, 0, 0), (host.Controller.Aborts, host.Controller.Resets, host.Controller.InFlight));
        Array.ForEach(buffers, b => b.Dispose());
    }
}
