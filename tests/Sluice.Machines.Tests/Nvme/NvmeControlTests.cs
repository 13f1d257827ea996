using Sluice.Machines.Nvme;

namespace Sluice.Machines.Tests.Nvme;

public sealed class NvmeControlTests : IDisposable
{
    private readonly byte[] _disk = new byte[1 << 20];
    private readonly NvmeRig _rig;

    public NvmeControlTests() => _rig = new(new MemoryMedium(_disk));

    public void Dispose() => _rig.Dispose();

    [Fact]
    public void IsWhatQemuSaysAnNvmeControllerIs()
    {
        Assert.Equal((0x1B36, 0x0010), (_rig.Function.VendorId, _rig.Function.DeviceId));
        Assert.Equal(0x010802, _rig.Function.ClassCode);
        Assert.Equal(17, _rig.Function.MsixVectors);
        Assert.True(_rig.Function.Bars[0].Is64Bit);
    }

    [Fact]
    public void CapabilitiesAndVersionAreTheseWords()
    {
        // MQES 0x7FF, CQR, TO 15, DSTRD 0, CSS bit 37, MPSMIN 0, MPSMAX 4. Seen failing: CQR at bit 17.
        Assert.Equal(0x0040_0020_0F01_07FFUL, _rig.Registers.Read64(0x00));
        Assert.Equal(0x0F01_07FFU, _rig.Registers.Read32(0x00));
        Assert.Equal(0x0040_0020U, _rig.Registers.Read32(0x04));
        Assert.Equal(0x0001_0400U, _rig.Registers.Read32(0x08));
        Assert.Equal(0x07FF, _rig.Registers.Read16(0x00));
    }

    [Fact]
    public void InterruptMaskIsSetAndClearedByBits()
    {
        _rig.Registers.Write32(0x0C, 0b1011);
        _rig.Registers.Write32(0x10, 0b0010);
        Assert.Equal(0b1001U, _rig.Registers.Read32(0x0C));
        Assert.Equal(0b1001U, _rig.Registers.Read32(0x10));
    }

    [Fact]
    public void QueueRegistersTakeHalves()
    {
        _rig.Registers.Write32(0x28, 0x8765_4FFF);
        _rig.Registers.Write32(0x2C, 0x0000_0012);
        Assert.Equal(0x12_8765_4000UL, _rig.Registers.Read64(0x28));
        _rig.Registers.Write32(0x24, 0xFFFF_FFFF);
        Assert.Equal(0x0FFF_0FFFU, _rig.Registers.Read32(0x24));
        _rig.Registers.Write32(0x08, 0); // read-only
        Assert.Equal(0x0001_0400U, _rig.Registers.Read32(0x08));
    }

    [Fact]
    public void EnableMakesReadyAndDisableMakesItGo()
    {
        Assert.Equal(0U, _rig.Status);
        _rig.Enable();
        Assert.Equal(1U, _rig.Status);
        _rig.Registers.Write32(0x14, 0x0046_0000);
        Assert.True(_rig.Run(() => _rig.Status == 0));
        _rig.Enable();
    }

    [Theory]
    [InlineData(0x0000_000FU, 0x1000UL, 0x2000UL, 0x0046_0001U)] // completion queue of one entry
    [InlineData(0x000F_0000U, 0x1000UL, 0x2000UL, 0x0046_0001U)] // submission queue of one entry
    [InlineData(0x000F_000FU, 0x1000UL, 0x2000UL, 0x0046_0081U)] // 8 KiB pages, queue at 4 KiB
    [InlineData(0x000F_000FU, 0x2000UL, 0x1000UL, 0x0046_0081U)]
    [InlineData(0x000F_000FU, 0x0UL, 0x200000UL, 0x0046_0281U)] // 128 KiB pages: above MPSMAX
    [InlineData(0x000F_000FU, 0x1000UL, 0x2000UL, 0x0046_0011U)] // another command set
    [InlineData(0x000F_000FU, 0x1000UL, 0x2000UL, 0x0046_0801U)] // weighted round robin
    public void WrongConfigurationIsFatalAndAResetRepairsIt(
        uint attributes, ulong submissions, ulong completions, uint configuration)
    {
        _rig.Registers.Write32(0x24, attributes);
        _rig.Registers.Write64(0x28, submissions);
        _rig.Registers.Write64(0x30, completions);
        _rig.Registers.Write32(0x14, configuration);
        Assert.True(_rig.Run(() => (_rig.Status & 2) != 0));
        Assert.Equal(0U, _rig.Status & 1);
        _rig.Registers.Write32(0x14, 0);
        Assert.True(_rig.Run(() => _rig.Status == 0));
        _rig.Enable();
    }

    [Fact]
    public void ShutdownFlushesAndSaysSo()
    {
        _rig.Enable();
        _rig.Registers.Write32(0x14, 0x0046_4001);
        Assert.True(_rig.Run(() => (_rig.Status & 0xC) == 8));
        _rig.Registers.Write32(0x14, 0);
        Assert.True(_rig.Run(() => _rig.Status == 0));
        _rig.Enable();
    }

    [Fact]
    public void FunctionLevelResetForgetsEverything()
    {
        _rig.Enable();
        _rig.CreateQueues(1, 8, 8);
        _rig.Function.Reset();
        RegisterWindow registers = _rig.Function.MapBar(0);
        Assert.True(_rig.Run(() => registers.Read32(0x1C) == 0));
        Assert.Equal(0UL, registers.Read64(0x28));
        Assert.Equal(0U, registers.Read32(0x14));
        _rig.Function.EnableBusMaster();
        _rig.Enable();
        _rig.CreateQueues(1, 8, 8);
    }

    [Fact]
    public void IdentifyIsTheseDwordsAndAnswersTheseWords()
    {
        _rig.Enable();
        // Identify controller, command id 1, PRP1, CNS 1: written out as the specification draws it.
        uint[] dwords = [0x0000_0006, 0, 0, 0, 0, 0, (uint)_rig.Data, (uint)(_rig.Data >> 32), 0, 0, 1, 0, 0, 0, 0, 0];
        _rig.Submit(_rig.Admin, dwords);
        Answer answer = _rig.Take(_rig.Admin);
        Assert.Equal(0U, answer.Result);
        Assert.Equal(0x0000_0001U, answer.Dword2); // submission queue 0, head 1. Seen failing: head before the command
        Assert.Equal(0x0001_0001U, answer.Dword3); // success, phase 1, command id 1
        byte[] page = _rig.ReadMemory(_rig.Data, 4096);
        Assert.Equal("36-1B-F4-1A", BitConverter.ToString(page, 0, 4));
        Assert.StartsWith("SLUICE0001 ", System.Text.Encoding.ASCII.GetString(page, 4, 20), StringComparison.Ordinal);
        Assert.Equal(7, page[77]); // MDTS: 2^7 pages
        Assert.Equal("00-04-01-00", BitConverter.ToString(page, 80, 4));
        Assert.Equal((0x66, 0x44), (page[512], page[513]));
        Assert.Equal(1, page[516]);
    }

    [Fact]
    public void IdentifyNamespaceListsAndDescriptors()
    {
        _rig.Enable();
        Assert.Equal(0, _rig.ExecuteAdmin(6, 1, _rig.Data, 0).Status);
        byte[] page = _rig.ReadMemory(_rig.Data, 4096);
        Assert.Equal(2048, BitConverter.ToInt64(page, 0)); // 1 MiB of 512 bytes
        Assert.Equal("00-00-09-00", BitConverter.ToString(page, 128, 4));
        Assert.Equal(0, _rig.ExecuteAdmin(6, 0, _rig.Data, 2).Status);
        Assert.Equal("01-00-00-00-00-00-00-00", BitConverter.ToString(_rig.ReadMemory(_rig.Data, 8)));
        Assert.Equal(0, _rig.ExecuteAdmin(6, 1, _rig.Data, 2).Status); // none above 1
        Assert.Equal("00-00-00-00", BitConverter.ToString(_rig.ReadMemory(_rig.Data, 4)));
        Assert.Equal(0, _rig.ExecuteAdmin(6, 1, _rig.Data, 3).Status);
        Assert.Equal("01-08-00-00-52-54-00", BitConverter.ToString(_rig.ReadMemory(_rig.Data, 7)));
    }

    [Theory]
    [InlineData(0xC0U, 0U, 0U, 0U, 0x001)] // no such opcode
    [InlineData(0x18U, 0U, 0U, 0U, 0x001)] // keep alive: not supported
    [InlineData(0x06U, 0U, 0U, 0U, 0x00B)] // identify namespace 0
    [InlineData(0x06U, 2U, 0U, 0U, 0x00B)]
    [InlineData(0x06U, 0xFFFF_FFFFU, 2U, 0U, 0x00B)] // list after the last id
    [InlineData(0x06U, 1U, 0x55U, 0U, 0x002)] // no such page
    [InlineData(0x05U, 0U, 0x000F_0000U, 1U, 0x101)] // create completion queue 0
    [InlineData(0x05U, 0U, 0x000F_0011U, 1U, 0x101)] // beyond the last
    [InlineData(0x05U, 0U, 0x0000_0001U, 1U, 0x102)] // one entry
    [InlineData(0x05U, 0U, 0x0800_0001U, 1U, 0x102)] // 2049 entries
    [InlineData(0x05U, 0U, 0x000F_0001U, 0U, 0x002)] // not contiguous
    [InlineData(0x05U, 0U, 0x000F_0001U, 0x0011_0003U, 0x108)] // vector 17
    [InlineData(0x01U, 0U, 0x000F_0000U, 0x0001_0001U, 0x101)] // create submission queue 0
    [InlineData(0x01U, 0U, 0x000F_0001U, 0x0000_0001U, 0x101)] // completing to the admin queue
    [InlineData(0x01U, 0U, 0x000F_0001U, 0x0001_0001U, 0x100)] // no such completion queue
    [InlineData(0x04U, 0U, 1U, 0U, 0x101)] // delete what is not there
    [InlineData(0x00U, 0U, 1U, 0U, 0x101)]
    [InlineData(0x00U, 0U, 0U, 0U, 0x101)]
    [InlineData(0x0AU, 0U, 0x00U, 0U, 0x002)] // no such feature
    [InlineData(0x09U, 0U, 0x7FU, 0U, 0x002)]
    [InlineData(0x09U, 0U, 0x8000_0006U, 1U, 0x10D)] // nothing can be saved
    [InlineData(0x09U, 1U, 0x06U, 1U, 0x10F)] // not of a namespace
    [InlineData(0x09U, 7U, 0x05U, 1U, 0x00B)]
    [InlineData(0x09U, 0U, 0x07U, 0xFFFFU, 0x002)] // 65536 queues
    [InlineData(0x02U, 0U, 0x007F_0009U, 0U, 0x109)] // no such log
    [InlineData(0x08U, 0U, 0x0001_0009U, 0U, 0x002)] // abort in a queue that is not there
    public void AdminErrors(uint opcode, uint ns, uint dword10, uint dword11, int status)
    {
        _rig.Enable();
        Answer answer = _rig.ExecuteAdmin(opcode, ns, _rig.Data, dword10, dword11);
        Assert.Equal(status, answer.Status);
        Assert.True(answer.DoNotRetry);
        Assert.Equal(1U, _rig.Status);
    }

    [Fact]
    public void QueuesInUseCannotBeCreatedTwiceOrTakenAway()
    {
        _rig.Enable();
        Ring ring = _rig.CreateQueues(1, 8, 8);
        Assert.Equal(0x101, _rig.ExecuteAdmin(5, 0, ring.Completions, 0x0007_0001, 1).Status);
        Assert.Equal(0x101, _rig.ExecuteAdmin(1, 0, ring.Submissions, 0x0007_0001, 0x0001_0001).Status);
        Assert.Equal(0x10C, _rig.ExecuteAdmin(4, 0, 0, 1).Status);
        Assert.Equal(0x00C, _rig.ExecuteAdmin(9, 0, 0, 7, 0x0003_0003).Status); // number of queues: too late
        Assert.Equal(0x013, _rig.ExecuteAdmin(5, 0, ring.Completions + 8, 0x0007_0002, 1).Status);
        Assert.Equal(0, _rig.ExecuteAdmin(0, 0, 0, 1).Status);
        Assert.Equal(0, _rig.ExecuteAdmin(4, 0, 0, 1).Status);
        Answer granted = _rig.ExecuteAdmin(9, 0, 0, 7, 0x0003_0003);
        Assert.Equal((0, 0x000F_000FU), (granted.Status, granted.Result));
    }

    [Fact]
    public void FeaturesKeepWhatIsSetUntilReset()
    {
        _rig.Enable();
        Assert.Equal(1U, _rig.ExecuteAdmin(0xA, 0, 0, 6).Result);
        Assert.Equal(0, _rig.ExecuteAdmin(9, 0, 0, 6, 0).Status);
        Assert.Equal(0U, _rig.ExecuteAdmin(0xA, 0, 0, 6).Result);
        Assert.Equal(1U, _rig.ExecuteAdmin(0xA, 0, 0, 0x106).Result); // the default
        Assert.Equal(4U, _rig.ExecuteAdmin(0xA, 0, 0, 0x306).Result); // changeable, nothing else
        Assert.Equal(0, _rig.ExecuteAdmin(9, 0, 0, 9, 0x0001_0003).Status);
        Assert.Equal(0x0001_0003U, _rig.ExecuteAdmin(0xA, 0, 0, 9, 3).Result);
        _rig.Registers.Write32(0x14, 0);
        Assert.True(_rig.Run(() => _rig.Status == 0));
        _rig.Enable();
        Assert.Equal(1U, _rig.ExecuteAdmin(0xA, 0, 0, 6).Result);
    }

    [Fact]
    public void LogsTellErrorsAndHealth()
    {
        _rig.Enable();
        _rig.ExecuteAdmin(0xC0);
        ushort id = _rig.Admin.LastId;
        Assert.Equal(0, _rig.ExecuteAdmin(2, 0xFFFF_FFFF, _rig.Data, 1 | (15u << 16)).Status); // one entry of 64 bytes
        byte[] entry = _rig.ReadMemory(_rig.Data, 128);
        Assert.Equal(1UL, BitConverter.ToUInt64(entry, 0));
        Assert.Equal(id, BitConverter.ToUInt16(entry, 10));
        Assert.Equal(0x8002, BitConverter.ToUInt16(entry, 12)); // invalid opcode, do not retry, above the phase bit
        Assert.All(entry[64..], static b => Assert.Equal(0, b)); // no byte more than asked for
        Assert.Equal(0, _rig.ExecuteAdmin(2, 0xFFFF_FFFF, _rig.Data, 2 | (127u << 16)).Status);
        Assert.Equal(323, BitConverter.ToUInt16(_rig.ReadMemory(_rig.Data, 512), 1));
        // Beyond its end.
        Assert.Equal(0x002, _rig.ExecuteAdmin(2, 0xFFFF_FFFF, _rig.Data, 2 | (127u << 16), 0, 516).Status);
        Assert.Equal(0, _rig.ExecuteAdmin(2, 0xFFFF_FFFF, _rig.Data, 3 | (127u << 16)).Status);
    }

    [Fact]
    public void WrongDoorbellsAreEventsAndNeverMore()
    {
        _rig.Enable();
        Ring ring = _rig.CreateQueues(1, 8, 8);
        ushort first = _rig.Submit(_rig.Admin, NvmeRig.Command(0xC, 0));
        _rig.Registers.Write32(0x1000 + 8, 8); // tail outside the ring
        Answer value = _rig.Take(_rig.Admin);
        Assert.Equal((first, 0x0001_0100U), (value.CommandId, value.Result));
        ushort second = _rig.Submit(_rig.Admin, NvmeRig.Command(0xC, 0));
        _rig.Registers.Write32(0x1000 + (8 * 9), 1); // a queue that is not there
        _rig.Settle();
        Assert.False(_rig.TryPeek(_rig.Admin, out _)); // silent until the error log is read
        _rig.Submit(_rig.Admin, NvmeRig.Command(2, 0xFFFF_FFFF, _rig.Data, 0, 1 | (15u << 16)));
        Answer[] answers = [_rig.Take(_rig.Admin), _rig.Take(_rig.Admin)];
        Assert.Contains(answers, a => a.CommandId == second && a.Result == 0x0001_0000U);
        // A completion head that frees what was never posted.
        _rig.ExecuteAdmin(2, 0xFFFF_FFFF, _rig.Data, 1 | (15u << 16));
        _rig.Submit(_rig.Admin, NvmeRig.Command(0xC, 0));
        _rig.Registers.Write32(0x1000 + 12, 3);
        Assert.Equal(0x0001_0100U, _rig.Take(_rig.Admin).Result);
        Assert.Equal(0, _rig.Execute(ring, NvmeRig.Command(0)).Status);
    }

    [Fact]
    public void EventRequestsAreLimitedAndCanBeAborted()
    {
        _rig.Enable();
        for (int i = 0; i < 4; i++) { _rig.Submit(_rig.Admin, NvmeRig.Command(0xC, 0)); }
        Assert.Equal(0x105, _rig.ExecuteAdmin(0xC).Status);
        _rig.Submit(_rig.Admin, NvmeRig.Command(8, 0, 0, 0, 2u << 16)); // abort command id 2 of queue 0
        Answer aborted = _rig.Take(_rig.Admin);
        Answer abort = _rig.Take(_rig.Admin);
        Assert.Equal((2, 0x007), (aborted.CommandId, aborted.Status));
        Assert.Equal((0, 0U), (abort.Status, abort.Result));
        Assert.Equal(1U, _rig.ExecuteAdmin(8, 0, 0, 99u << 16).Result); // not aborted
    }

    [Fact]
    public void HeatIsAnEventWhenAskedFor()
    {
        _rig.Enable();
        ushort request = _rig.Submit(_rig.Admin, NvmeRig.Command(0xC, 0));
        Assert.Equal(0, _rig.ExecuteAdmin(9, 0, 0, 0xB, 0x2).Status);
        _rig.Submit(_rig.Admin, NvmeRig.Command(9, 0, 0, 0, 4, 300)); // threshold 300 K, it has 323
        Answer[] answers = [_rig.Take(_rig.Admin), _rig.Take(_rig.Admin)];
        Assert.Contains(answers, a => a.CommandId == request && a.Result == 0x0002_0101U);
    }
}
