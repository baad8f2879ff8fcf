"""The node classes that every ComfyUI has, so that nobody need ask for them or declare them.

Source: `extension-node-map.json` of ltdrdata/ComfyUI-Manager at 908a1009 (March 2025), without its tests. A
class that came later is treated as one of a package: workers declare it and jobs ask for it.
"""

from __future__ import annotations

from typing import Final

_NAMES: Final = """
    AddNoise AlignYourStepsScheduler BasicGuider BasicScheduler BetaSamplingScheduler CFGGuider
    CFGZeroStar CLIPAttentionMultiply CLIPLoader CLIPMergeAdd CLIPMergeSimple CLIPMergeSubtract CLIPSave
    CLIPSetLastLayer CLIPTextEncode CLIPTextEncodeControlnet CLIPTextEncodeFlux CLIPTextEncodeHunyuanDiT
    CLIPTextEncodeLumina2 CLIPTextEncodePixArtAlpha CLIPTextEncodeSD3 CLIPTextEncodeSDXL
    CLIPTextEncodeSDXLRefiner CLIPVisionEncode CLIPVisionLoader Canny CheckpointLoader
    CheckpointLoaderSimple CheckpointSave ConditioningAverage ConditioningCombine ConditioningConcat
    ConditioningSetArea ConditioningSetAreaPercentage ConditioningSetAreaPercentageVideo
    ConditioningSetAreaStrength ConditioningSetMask ConditioningSetTimestepRange ConditioningStableAudio
    ConditioningZeroOut ControlNetApply ControlNetApplyAdvanced ControlNetApplySD3
    ControlNetInpaintingAliMamaApply ControlNetLoader CosmosImageToVideoLatent CropMask
    DiffControlNetLoader DifferentialDiffusion DiffusersLoader DisableNoise DualCFGGuider DualCLIPLoader
    EmptyCosmosLatentVideo EmptyHunyuanLatentVideo EmptyImage EmptyLTXVLatentVideo EmptyLatentAudio
    EmptyLatentHunyuan3Dv2 EmptyLatentImage EmptyMochiLatentVideo EmptySD3LatentImage
    ExponentialScheduler FeatherMask FlipSigmas FluxDisableGuidance FluxGuidance FreeU FreeU_V2
    GITSScheduler GLIGENLoader GLIGENTextBoxApply GrowMask Hunyuan3Dv2Conditioning
    Hunyuan3Dv2ConditioningMultiView HunyuanImageToVideo HyperTile HypernetworkLoader ImageBatch
    ImageBlend ImageBlur ImageColorToMask ImageCompositeMasked ImageCrop ImageFromBatch ImageInvert
    ImageOnlyCheckpointLoader ImageOnlyCheckpointSave ImagePadForOutpaint ImageQuantize ImageRGBToYUV
    ImageScale ImageScaleBy ImageScaleToTotalPixels ImageSharpen ImageToMask ImageUpscaleWithModel
    ImageYUVToRGB InpaintModelConditioning InstructPixToPixConditioning InvertMask JoinImageWithAlpha
    KSampler KSamplerAdvanced KSamplerSelect KarrasScheduler LTXVAddGuide LTXVConditioning
    LTXVCropGuides LTXVImgToVideo LTXVPreprocess LTXVScheduler LaplaceScheduler LatentAdd
    LatentApplyOperation LatentApplyOperationCFG LatentBatch LatentBatchSeedBehavior LatentBlend
    LatentComposite LatentCompositeMasked LatentCrop LatentFlip LatentFromBatch LatentInterpolate
    LatentMultiply LatentOperationSharpen LatentOperationTonemapReinhard LatentRotate LatentSubtract
    LatentUpscale LatentUpscaleBy Load3D Load3DAnimation LoadAudio LoadImage LoadImageMask
    LoadImageOutput LoadLatent LoraLoader LoraLoaderModelOnly LoraSave LotusConditioning Mahiro
    MaskComposite MaskToImage ModelComputeDtype ModelMergeAdd ModelMergeAuraflow ModelMergeBlocks
    ModelMergeCosmos14B ModelMergeCosmos7B ModelMergeFlux1 ModelMergeLTXV ModelMergeMochiPreview
    ModelMergeSD1 ModelMergeSD2 ModelMergeSD35_Large ModelMergeSD3_2B ModelMergeSDXL ModelMergeSimple
    ModelMergeSubtract ModelMergeWAN2_1 ModelSamplingAuraFlow ModelSamplingContinuousEDM
    ModelSamplingContinuousV ModelSamplingDiscrete ModelSamplingFlux ModelSamplingLTXV ModelSamplingSD3
    ModelSamplingStableCascade ModelSave Morphology PatchModelAddDownscale PerpNeg PerpNegGuider
    PerturbedAttentionGuidance PhotoMakerEncode PhotoMakerLoader PolyexponentialScheduler
    PorterDuffImageComposite Preview3D Preview3DAnimation PreviewAudio PreviewImage PrimitiveBoolean
    PrimitiveFloat PrimitiveInt PrimitiveString RandomNoise RebatchImages RebatchLatents RenormCFG
    RepeatImageBatch RepeatLatentBatch RescaleCFG SDTurboScheduler SD_4XUpscale_Conditioning
    SV3D_Conditioning SVD_img2vid_Conditioning SamplerCustom SamplerCustomAdvanced SamplerDPMAdaptative
    SamplerDPMPP_2M_SDE SamplerDPMPP_2S_Ancestral SamplerDPMPP_3M_SDE SamplerDPMPP_SDE
    SamplerEulerAncestral SamplerEulerAncestralCFGPP SamplerEulerCFGpp SamplerLCMUpscale SamplerLMS
    SaveAnimatedPNG SaveAnimatedWEBP SaveAudio SaveGLB SaveImage SaveImageWebsocket SaveLatent SaveWEBM
    SelfAttentionGuidance SetFirstSigma SetLatentNoiseMask SetUnionControlNetType SkipLayerGuidanceDiT
    SkipLayerGuidanceSD3 SolidMask SplitImageWithAlpha SplitSigmas SplitSigmasDenoise
    StableCascade_EmptyLatentImage StableCascade_StageB_Conditioning StableCascade_StageC_VAEEncode
    StableCascade_SuperResolutionControlnet StableZero123_Conditioning
    StableZero123_Conditioning_Batched StyleModelApply StyleModelLoader
    TextEncodeHunyuanVideo_ImageToVideo ThresholdMask TomePatchModel TorchCompileModel TripleCLIPLoader
    UNETLoader UNetCrossAttentionMultiply UNetSelfAttentionMultiply UNetTemporalAttentionMultiply
    UpscaleModelLoader VAEDecode VAEDecodeAudio VAEDecodeHunyuan3D VAEDecodeTiled VAEEncode
    VAEEncodeAudio VAEEncodeForInpaint VAEEncodeTiled VAELoader VAESave VPScheduler
    VideoLinearCFGGuidance VideoTriangleCFGGuidance VoxelToMeshBasic WanFunControlToVideo
    WanFunInpaintToVideo WanImageToVideo WebcamCapture unCLIPCheckpointLoader unCLIPConditioning
"""
STOCK: Final = frozenset(_NAMES.split())
"""Their names."""
